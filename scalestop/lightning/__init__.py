"""The Lightning adapter: whatever touches a Trainer."""
