"""Fitting laws to runs, and saying how far they may be trusted."""
