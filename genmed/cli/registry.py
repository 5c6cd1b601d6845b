"""genmed registry: copy"""

from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import Debug, Json, Root, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.records.registry import Existing
    from genmed.workflows.copying import Copying

app = typer.Typer(
    help="Move the list of runs between a file and a server.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
WHAT = "postgresql://user@host/database, a file, or a folder with registry.db; unless given the registry in use."


@app.callback()
def _group() -> None:
    """So that `copy` is a command of its own though it is the only one."""


@app.command()
def copy(
    source: Annotated[str | None, typer.Option("--from", metavar="PLACE", help=WHAT, show_default=False)] = None,
    target: Annotated[str | None, typer.Option("--to", metavar="PLACE", help="Likewise.", show_default=False)] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to the runs that are there; those in both must be the same.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Drop what is there first.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy all that one registry holds into another; seals are checked, the run folders stay where they are."""
    from genmed.cli.output import print_json
    from genmed.workflows.copying import copy_between

    if merge and replace:
        raise RequestError("--merge and --replace contradict each other", "give one of them")
    existing: Existing = "merge" if merge else "replace" if replace else "refuse"
    copying = copy_between(source, target, root_folder(root), existing)
    print_json(copying.to_json()) if json else _print_copying(copying)


def _print_copying(copying: "Copying") -> None:
    from genmed.cli.results import print_pairs

    counts = {name: f"{count:,}" for name, count in copying.copied.to_json().items()}
    there = counts.pop("there")
    pairs = [("from", copying.source), ("to", copying.target), *counts.items()]
    print_pairs(pairs if there == "0" else [*pairs, ("there already", f"{there} runs")])
