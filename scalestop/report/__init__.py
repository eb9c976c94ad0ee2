"""Pictures of runs and laws."""
