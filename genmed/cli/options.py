"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer


def complete_run(incomplete: str) -> list[str]:
    from genmed.records.registry import open_registry

    registry = open_registry(root_folder(None), create=False)
    names = [run.name for run in registry.names()] if registry else []
    return [name for name in ["latest", *names] if name.startswith(incomplete)]


RunReference = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Name, id, any unique prefix of either, latest, or latest~1.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", help="Where registry.db and runs/ are; else GENMED_ROOT, else here.", show_default=False),
]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Where the data lie now, if they moved.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def root_folder(root: Path | None) -> Path:
    """--root over GENMED_ROOT over the current folder."""
    return root or Path(os.environ.get("GENMED_ROOT") or ".")
