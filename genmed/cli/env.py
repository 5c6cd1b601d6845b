"""genmed env"""

from typing import Annotated, Any

import typer

from genmed.cli.options import Debug, Json, Root, root_folder


def command(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Compare with what this run recorded.")] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Report hardware, software and determinism settings as a run has them; for a run, then against now."""
    from genmed.cli.output import print_json, print_line, print_table, show_truth, show_value
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import configure, interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import describe_environment, find_run

    folder = find_run(run, root_folder(root)) if run is not None else None
    config = read_config(folder, folder.read()) if folder else configure().config
    restart(interpreter_variables(config))
    report = describe_environment(config, folder)
    if json:
        shown = {key: value for key, value in report.items() if key != "where"}
        if folder is not None:  # the reasons are words for people, and may change
            shown["differences"] = [
                {key: value for key, value in entry.items() if key != "why"} for entry in report["differences"]
            ]
        print_json(shown)
        return
    if folder is None:
        _print_report(report)
        return
    rows = [
        [
            entry["field"],
            show_value(entry["recorded"]),
            show_value(entry["found"]),
            show_truth(entry["changes_bits"]),
            entry["why"],
        ]
        for entry in report["differences"]
    ]
    if rows:
        print_table(["field", "recorded", "found", "can change bits", "why"], rows)
    else:
        print_line(f"environment and code are as {folder.name} recorded them")
    if report["code_diff"]:
        print(report["code_diff"])


def _print_report(report: dict[str, Any]) -> None:
    """By section on a terminal, without what is absent; one line a field off it."""
    import sys

    from genmed.cli.output import show_value

    sections = {name: value for name, value in report.items() if name not in ("schema", "where")}
    for section, content in sections.items():
        fields = content if isinstance(content, dict) else {"": content}
        fields = {name: value for name, value in fields.items() if name not in ("diff", "diff_truncated")}
        if not sys.stdout.isatty():
            for name, value in fields.items():
                print(f"{section}.{name}".rstrip(".") + f"\t{show_value(value)}")
            continue
        print(f"\n{section}")
        for name, value in fields.items():
            if value not in (None, [], {}):
                print(f"  {name:<34}{show_value(value)}")
