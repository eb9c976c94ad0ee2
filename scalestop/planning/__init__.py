"""Budgets, allocations and plans."""
