"""Counting parameters, tokens and FLOPs, exactly."""
