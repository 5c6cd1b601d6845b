"""The command line: one file a command, each parses, calls one workflow and prints. `main` is the entry point."""

from genmed.cli.app import main

__all__ = ["main"]
