"""genmed list"""

from typing import Annotated

import typer

from genmed.cli.options import Debug, Json, Root, root_folder

NEWEST = 20


def command(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the registry anew from runs/ first.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help=f"All runs, not the newest {NEWEST}.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, newest first."""
    from genmed.cli.output import print_json, print_line, print_table, show_number
    from genmed.cli.screen import Plain
    from genmed.workflows.index import rebuild as rebuild_registry
    from genmed.workflows.overview import list_runs

    place = root_folder(root)
    if rebuild:
        print_line(f"registry rebuilt: {rebuild_registry(place, Plain())} runs")
    runs = list_runs(place, None if show_all else NEWEST)
    if json:
        print_json(runs)
        return
    if not runs:
        print_line("no runs here yet; `genmed train --seed 42` makes the first")
        return
    columns = ["name", "status", "epochs", "test AUROC", "device", "created", "tags"]
    rows = [
        [
            run["name"],
            run["status"],
            f"{run['epochs_done']}/{run['epochs_total']}",
            show_number(run["test_auroc_macro"]),
            run["device"],
            _show_time(run["created"]),
            " ".join(run["tags"]),
        ]
        for run in runs
    ]
    print_table(
        columns,
        rows,
        numbers=["epochs", "test AUROC"],
        whole=["name", "status", "device", "created"],
        expendable=["device", "created", "tags", "epochs"],
    )


def _show_time(text: str) -> str:
    from datetime import datetime

    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
