"""genmed list"""

from enum import StrEnum
from typing import Annotated, Any

import typer

from genmed.cli.choice import Dataset, Hidden, Model, Status, Tags, choose
from genmed.cli.options import Debug, Json, Root, root_folder
from genmed.ground.errors import RequestError

NEWEST = 20


class Sort(StrEnum):
    """What the list is sorted by; created and auroc have the highest first."""

    CREATED = "created"
    NAME = "name"
    AUROC = "auroc"
    STATUS = "status"
    DATASET = "dataset"
    MODEL = "model"
    SEED = "seed"


def command(
    tag: Tags = None,
    status: Status = None,
    dataset: Dataset = None,
    model: Model = None,
    hidden: Hidden = False,
    sort: Annotated[
        Sort, typer.Option(help="What comes first: the newest, the highest AUROC, the first letter.")
    ] = Sort.CREATED,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    count: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help=f"So many; {NEWEST} unless given.", show_default=False)
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the registry anew from runs/ first.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, newest first."""
    from genmed.cli.output import print_json, print_line
    from genmed.workflows.listing import ANY, list_runs

    if show_all and count is not None:
        raise RequestError(f"--all and -n {count} contradict each other", "give one of them")
    place, choice = root_folder(root), choose(tag, status, dataset, model, hidden)
    if rebuild:
        from genmed.cli.screen import Plain
        from genmed.workflows.index import rebuild as rebuild_registry

        print_line(f"registry rebuilt: {rebuild_registry(place, Plain())} runs")
    listing = list_runs(place, None if show_all else count or NEWEST, choice, sort.value, reverse)
    if json:
        print_json(listing.runs)
    elif listing.runs:
        _print_runs(listing.runs)
    elif choice == ANY:
        print_line("no runs here yet; `genmed train --seed 42` makes the first")
    else:
        print_line("no run fits")
    if listing.more:
        print_line(f"{listing.more:,} more: --all shows them, -n N the first N")


INTERVAL = "95% interval"


def _print_runs(runs: list[dict[str, Any]]) -> None:
    from genmed.cli.output import print_table, show_number
    from genmed.workflows.verification.last import shorten_verdict

    elsewhere = _are_elsewhere(runs)
    columns = ["name", "status", "epochs", "test AUROC", INTERVAL, "verified", "device", "created", "tags"]
    rows = [
        [
            run["name"],
            run["status"],
            f"{run['epochs_done']}/{run['epochs_total']}{' early' if run['stopped_early'] else ''}",
            show_number(run["test_auroc_macro"]),
            _show_interval(run["test_auroc_macro_low"], run["test_auroc_macro_high"]),
            shorten_verdict(run["verification"]),
            run["device"],
            *([run["host"] or "-"] if elsewhere else []),
            _show_time(run["created"]),
            " ".join(run["tags"]),
        ]
        for run in runs
    ]
    if elsewhere:
        columns.insert(columns.index("created"), "host")
    print_table(
        columns,
        rows,
        numbers=["epochs", "test AUROC", INTERVAL],
        whole=["name", "status", "verified", "device", "host", "created"],
        expendable=[
            name for name in ["device", "created", "epochs", "tags", INTERVAL, "host", "verified"] if name in columns
        ],
    )


def _are_elsewhere(runs: list[dict[str, Any]]) -> bool:
    """Whether one ran on another host than this: else a column of hosts says nothing."""
    from genmed.records.environment import host_name

    return not {run["host"] for run in runs} <= {host_name(), None}


def _show_interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _show_time(text: str) -> str:
    from datetime import datetime

    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
