"""A run's report: what is drawn, described once, and drawn twice: for the page, and for a paper."""
