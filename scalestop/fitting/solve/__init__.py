"""Numerics behind the fits: objectives, starts, batched Newton, resampling. No law is chosen here."""
