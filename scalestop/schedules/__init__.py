"""Learning rates that know the budget, and where other schedules end."""
