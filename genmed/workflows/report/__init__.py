"""report: what a run, or several, came to, as a page that opens offline and as plots for a paper."""
