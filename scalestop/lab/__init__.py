"""A laboratory for scaling laws: a corpus that every Python carries, and models whose size is a number."""
