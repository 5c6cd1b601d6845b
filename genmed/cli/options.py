"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from genmed.cli.completion import complete_run as complete_run
from genmed.cli.place import root_folder as root_folder

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
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        metavar="W",
        help="Compute the run's shards together; as recorded, at most the cores. Changes no bit.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
