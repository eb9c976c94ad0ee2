"""Runs, read from where they are, as one table with every row accounted for."""
