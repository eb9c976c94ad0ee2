"""A run under watch, without any framework: counts, rule, gate, metrics, records."""
