"""genmed study list"""

from genmed.cli.options import Debug, Json, Root, root_folder


def command(root: Root = None, json: Json = False, debug: Debug = False) -> None:
    """List the studies, newest first."""
    from genmed.cli.output import print_json, print_line, print_table
    from genmed.workflows.studies.listing import list_studies

    studies = list_studies(root_folder(root))
    if json:
        print_json(studies)
        return
    if not studies:
        print_line("no studies here yet; `genmed study --seeds 5` makes the first")
        return
    columns = ["name", "status", "runs", "cells", "seeds", "metric", "created"]
    rows = [
        [entry["study"], entry["status"], entry["error"], "", "", "", ""]
        if entry["error"]
        else [
            entry["study"],
            entry["status"],
            f"{entry['runs_done']}/{entry['runs_total']}",
            ", ".join(entry["cells"]),
            ", ".join(map(str, entry["seeds"])),
            entry["metric"],
            entry["created"][:16].replace("T", " "),
        ]
        for entry in studies
    ]
    print_table(columns, rows, numbers=["runs"])
