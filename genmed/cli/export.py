"""genmed export"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from genmed.cli.options import Debug, Json, Root, RunReference, root_folder


class Checkpoints(StrEnum):
    """Which of the run's checkpoints are packed."""

    ALL = "all"
    BEST = "best"
    LAST = "last"
    NONE = "none"


def command(
    run: RunReference,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.zip", help="The file to write; none is overwritten.")],
    checkpoints: Annotated[
        Checkpoints, typer.Option(help="Which checkpoints go along; a verification needs none.")
    ] = Checkpoints.ALL,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Pack a run into one file, which another laboratory verifies on its own copy of the data."""
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs
    from genmed.workflows.bundle import export_bundle
    from genmed.workflows.overview import find_run

    written = export_bundle(find_run(run, root_folder(root)), root_folder(root), out, checkpoints.value)
    if json:
        print_json(written.to_json())
        return
    print_pairs(
        [
            ("run", written.run),
            ("file", str(written.file)),
            ("size", f"{written.size:,} bytes, {written.files} files"),
            ("sha256", written.sha256),
            ("trace", written.trace_digest or "-"),
        ]
    )
