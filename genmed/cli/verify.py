"""genmed verify"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import DataRoot, Debug, Json, Root, complete_run, root_folder
from genmed.ground.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from genmed.workflows.verify import Report


def command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE.zip",
            help="As of other commands: name, id, prefix, latest, latest~1; or a bundle that `genmed export` wrote.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    full: Annotated[bool, typer.Option("--full", help="Go on after the first difference.")] = False,
    data_root: DataRoot = None,
    model_file: Annotated[
        Path | None,
        typer.Option(help="For a bundle: your copy of the file with the run's own model.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="For a bundle: your copy of the file that the run began from.", show_default=False),
    ] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a recorded configuration again, compare it step for step, give a verdict."""
    from genmed.cli.output import print_json

    if run.endswith(".zip") or Path(run).is_file():
        report = _verify_bundle(Path(run), root_folder(root), full, data_root, model_file, weights)
    elif model_file or weights:
        raise ConfigError(f"--model-file and --weights go with a bundle, and {run} is a run", "leave them out")
    else:
        report = _verify_run(run, root_folder(root), full, data_root)
    print_json(report.to_json()) if json else _print_report(report)
    raise typer.Exit(report.exit_code)


def _verify_run(run: str, root: Path, full: bool, data_root: Path | None) -> "Report":
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import find_run

    folder = find_run(run, root)
    try:
        config = read_config(folder, folder.read())
    except RequestError:
        config = None  # the verdict will say what is wrong with it
    if config:
        restart(interpreter_variables(config))

    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import verify

    with open_screen() as screen:
        return verify(folder, root, screen, full=full, data_root=data_root)


def _verify_bundle(
    bundle: Path, root: Path, full: bool, data_root: Path | None, model_file: Path | None, weights: Path | None
) -> "Report":
    from genmed.ground.interpreter import restart
    from genmed.workflows.bundle import opened, read_bundled_config, trusted_config
    from genmed.workflows.configure import interpreter_variables

    recorded = read_bundled_config(bundle)
    try:
        config = trusted_config(recorded, data_root, model_file, weights)
    except ConfigError as error:
        raise ConfigError(f"{bundle}: {error.message}", error.hint) from None
    restart(interpreter_variables(config))  # by then nothing is left unpacked: it does not come back

    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import verify

    with opened(bundle) as folder, open_screen() as screen:
        return verify(folder, root, screen, full=full, config=config, keep=False)


def _print_report(report: "Report") -> None:
    from genmed.cli.output import print_table, show_number
    from genmed.cli.results import print_pairs

    rows = [
        [m.name, show_number(m.recorded), show_number(m.found), _show_difference(m.difference)] for m in report.metrics
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


def _show_difference(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:+.2e}"
