"""`python -m genmed`."""

from genmed.cli import main

main()
