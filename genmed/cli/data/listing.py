"""genmed data list"""

from typing import Any

from genmed.cli.options import Debug, Json


def command(json: Json = False, debug: Debug = False) -> None:
    """Name the datasets, and what each needs."""
    import sys

    from genmed.cli.output import print_json, print_table
    from genmed.workflows.inspection.listing import describe_datasets

    datasets = describe_datasets()
    if json:
        print_json(datasets)
    elif sys.stdout.isatty():
        for entry in datasets:
            _print_dataset(entry)
    else:
        columns = ["name", "title", "task", "needs", "licence"]
        print_table(columns, [[entry[column] or "-" for column in columns] for entry in datasets])


def _print_dataset(entry: dict[str, Any]) -> None:
    """A block: a table of all this would be too wide for a terminal."""
    import shutil
    import textwrap

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = min(shutil.get_terminal_size().columns, 120)
    console.print(Text.assemble((entry["name"], "bold"), f"  {entry['title']}"), soft_wrap=False)
    for what in ("task", "needs", "licence", "lineage"):
        told = entry[what] or {"task": "as the data say", "needs": "nothing", "lineage": ""}.get(what, "-")
        if told:
            lines = textwrap.wrap(told, max(width - 12, 20))
            for number, line in enumerate(lines):
                print(f"  {what if number == 0 else '':<10}{line}")
    print()
