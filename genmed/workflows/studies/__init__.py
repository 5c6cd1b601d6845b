"""study: a grid of runs from one config, seed by seed, and what can be said of the models in it."""
