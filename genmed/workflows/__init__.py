"""The verbs, each from start to end: train, resume, verify, and what the reading commands show."""
