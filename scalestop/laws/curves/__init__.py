"""Curves of single runs: how the loss falls along a run under its learning rate, and what a family of runs shares."""
