"""A ladder of small runs: plan it, train it, fit a law to it, and forecast the big run."""
