"""The commands of `scalestop`, one module each, loaded when asked for."""
