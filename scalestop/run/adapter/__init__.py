"""What adapters of different trainers share: the settings, the ranks, the resume, what users read."""
