"""genmed verify"""

from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import DataRoot, Debug, Json, Root, RunReference, root_folder

if TYPE_CHECKING:
    from genmed.workflows.verify import Report


def command(
    run: RunReference,
    full: Annotated[bool, typer.Option("--full", help="Go on after the first difference.")] = False,
    data_root: DataRoot = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a recorded configuration again, compare it step for step, give a verdict."""
    from genmed.ground.errors import RequestError
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import find_run

    folder = find_run(run, root_folder(root))
    try:
        config = read_config(folder, folder.read())
    except RequestError:
        config = None  # the verdict will say what is wrong with it
    if config:
        restart(interpreter_variables(config))

    from genmed.cli.output import print_json
    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import verify

    with open_screen() as screen:
        report = verify(folder, root_folder(root), screen, full=full, data_root=data_root)
    print_json(report.to_json()) if json else _print_report(report)
    raise typer.Exit(report.exit_code)


def _print_report(report: "Report") -> None:
    from genmed.cli.output import print_table, show_difference, show_number
    from genmed.cli.results import print_pairs

    rows = [
        [m.name, show_number(m.recorded), show_number(m.found), show_difference(m.difference)] for m in report.metrics
    ]
    if rows and report.verdict != "not comparable":
        print_table(["metric", "recorded", "found", "difference"], rows, numbers=["recorded", "found", "difference"])
    pairs = [("run", report.run), ("steps compared", f"{report.steps_compared} of {report.steps_total}")]
    if parted := report.first_divergence:
        pairs.append(("first difference", f"step {parted.step}, epoch {parted.epoch}: {parted.field}"))
    for cause in report.cause:
        weight = "can change bits" if cause.changes_bits else "cannot change bits"
        pairs.append(("not as recorded", f"{cause.what}: was {cause.recorded}, is {cause.found} ({weight})"))
    pairs += [("problem", problem) for problem in report.problems]
    print_pairs([*pairs, ("verdict", report.verdict)])
