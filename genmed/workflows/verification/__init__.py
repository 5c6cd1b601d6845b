"""The parts of `verify`: what is run again, where, how it is judged, and what a difference comes from."""
