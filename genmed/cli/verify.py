"""genmed verify"""

from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import DataRoot, Debug, Json, Root, RunReference, root_folder

if TYPE_CHECKING:
    from genmed.workflows.verification.report import Report


def command(
    run: RunReference,
    full: Annotated[bool, typer.Option("--full", help="Go on after the first difference.")] = False,
    segments: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Audit: N random stretches between checkpoints.")
    ] = None,
    segment: Annotated[
        list[int] | None, typer.Option(metavar="K", help="Audit: this stretch, from 1; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that verify stretches in parallel.")] = 1,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", help="Elsewhere: metrics this near are consistent, if bits differ."),
    ] = None,
    accept_consistent: Annotated[
        bool, typer.Option("--accept-consistent", help="Exit code 0 for the verdict consistent, too.")
    ] = False,
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

    if segments is not None and segment:
        raise RequestError("--segments and --segment exclude each other", "choose how many, or which")
    folder = find_run(run, root_folder(root))
    try:
        config = read_config(folder, folder.read())
    except RequestError:
        config = None  # the verdict will say what is wrong with it
    if config:
        restart(interpreter_variables(config))

    from genmed.cli.output import print_json
    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import Options, verify

    options = Options(full, segments, segment or (), jobs, tolerance)
    with open_screen() as screen:
        report = verify(folder, root_folder(root), screen, options, data_root=data_root)
    print_json(report.to_json()) if json else _print_report(report)
    raise typer.Exit(report.exit_code(accept_consistent))


def _print_report(report: "Report") -> None:
    from genmed.cli.output import print_table, show_difference, show_number
    from genmed.cli.results import print_pairs

    rows = [
        [m.name, show_number(m.recorded), show_number(m.found), show_difference(m.difference)] for m in report.metrics
    ]
    if any(entry.found is not None for entry in report.metrics):
        print_table(["metric", "recorded", "found", "difference"], rows, numbers=["recorded", "found", "difference"])
    pairs = [("run", report.run), ("steps compared", f"{report.steps_compared} of {report.steps_total}")]
    pairs += [("segment", entry.describe().removeprefix("segment ")) for entry in report.segments]
    if parted := report.first_divergence:
        pairs.append(("first difference", f"step {parted.step}, epoch {parted.epoch}: {parted.field}"))
    if report.localisation:
        pairs.append(("where", report.localisation.says))
    pairs += [("not as recorded", entry.describe()) for entry in report.cause if entry.part != "determinism"]
    pairs += [("problem", problem) for problem in report.problems]
    if report.bounds:
        pairs.append(("judged by", report.bounds.says))
    print_pairs([*pairs, ("verdict", report.headline)])
