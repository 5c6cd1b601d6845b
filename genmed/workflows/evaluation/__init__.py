"""From scores to results: metrics with intervals, by site, sex, age and view; of a run's own test, or of other data."""
