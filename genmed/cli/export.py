"""genmed export"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.choice import Dataset, Hidden, Model, Status, Tags, choose
from genmed.cli.completion import complete_run
from genmed.cli.options import Debug, Json, Root, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.workflows.listing import Choice


class Checkpoints(StrEnum):
    """Which of the run's checkpoints are packed."""

    ALL = "all"
    BEST = "best"
    LAST = "last"
    NONE = "none"


Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="One run to pack; with --csv, those of the table, else all.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="The file to write; none is overwritten. A table goes to stdout without it."
    ),
]


def command(
    runs: Runs = None,
    out: Out = None,
    checkpoints: Annotated[
        Checkpoints, typer.Option(help="Which checkpoints are packed; a verification needs none.")
    ] = Checkpoints.ALL,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A table for a spreadsheet, one row a run; nothing is packed.")
    ] = False,
    tag: Tags = None,
    status: Status = None,
    dataset: Dataset = None,
    model: Model = None,
    hidden: Hidden = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Pack a run into one file, which another laboratory verifies on its own copy of the data; or, with --csv, write a
    table of the runs."""
    choice = choose(tag, status, dataset, model, hidden)
    if as_csv:
        _write_table(root_folder(root), runs or [], choice, out, json)
    else:
        _pack(root_folder(root), runs or [], choice, out, checkpoints, json)


def _pack(
    place: Path, runs: Sequence[str], choice: "Choice", out: Path | None, checkpoints: Checkpoints, json: bool
) -> None:
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs
    from genmed.workflows.known import find_run
    from genmed.workflows.listing import ANY

    if len(runs) != 1 or out is None:
        raise RequestError(
            "one RUN and --out FILE.zip are wanted, or --csv",
            "genmed export latest --out run.zip, or genmed export --csv --out runs.csv",
        )
    if choice != ANY:
        raise RequestError("--tag and the like choose the rows of a table", "add --csv, or leave them out")
    folder = find_run(runs[0], place)
    from genmed.workflows.bundle import export_bundle

    written = export_bundle(folder, place, out, checkpoints.value)
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


def _write_table(place: Path, runs: Sequence[str], choice: "Choice", out: Path | None, json: bool) -> None:
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs
    from genmed.workflows.listing import ANY
    from genmed.workflows.table import tabulate

    if runs and choice != ANY:
        raise RequestError("runs are either named or chosen by --tag and the like, not both", "leave one of them out")
    table = tabulate(place, runs, choice)
    if out is None:
        print_json(table.to_json()) if json else print(table.to_csv(), end="")
        return
    table.write(out)
    if json:
        print_json({"schema": 1, "file": str(out), "runs": len(table.rows), "columns": list(table.columns)})
        return
    print_pairs([("file", str(out)), ("runs", str(len(table.rows))), ("columns", str(len(table.columns)))])
