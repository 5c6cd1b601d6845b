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
    """Report hardware, software and determinism settings; for a run, then against now."""
    from genmed.cli.output import print_json, print_line, print_table
    from genmed.cli.results import print_pairs
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import describe_environment, find_run

    folder = None
    if run is not None:
        folder = find_run(run, root_folder(root))
        restart(interpreter_variables(read_config(folder, folder.read())))
    report = describe_environment(folder)
    if json:
        print_json({key: value for key, value in report.items() if key != "where"})
        return
    if folder is None:
        print_pairs(_summarise(report))
        return
    rows = [
        [entry["field"], _show(entry["recorded"]), _show(entry["found"]), "yes" if entry["changes_bits"] else "no"]
        for entry in report["differences"]
    ]
    if rows:
        print_table(["field", "recorded", "found", "can change bits"], rows)
    else:
        print_line(f"the environment is as {folder.name} recorded it")


def _summarise(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report's lines for people, in groups of one line."""
    pairs: list[tuple[str, str]] = []
    for section, content in report.items():
        if section in ("schema", "where"):
            continue
        if isinstance(content, dict):
            pairs += [(f"{section}.{key}", _show(value)) for key, value in content.items() if key != "diff_text"]
        else:
            pairs.append((section, _show(content)))
    return pairs


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_show, value)) or "-"
    text = str(value)
    return text if len(text) < 200 else f"{text[:197]}..."
