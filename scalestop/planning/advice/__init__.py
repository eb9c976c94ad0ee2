"""Advice: the questions that people bring to scaling laws, each one a pure function that returns a frozen answer.

Every answer carries a `Basis` (which law, what its N counts, how far outside its runs the question lies), intervals
where the law knows its uncertainty, `to_dict()` for scripts, and a readable `str`.
"""
