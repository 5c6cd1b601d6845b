"""genmed verify"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from genmed.cli.options import DataRoot, Debug, Json, Processes, Root, complete_run, root_folder
from genmed.ground.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from genmed.records.config import Config
    from genmed.workflows.verification.options import Options
    from genmed.workflows.verification.report import Report


MOST_DIFFERENCES = 5


class Brought(NamedTuple):
    """The reviewer's own copies of a bundle's files."""

    model_file: Path | None
    weights: Path | None
    dataset_file: Path | None


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
    segments: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Audit: N random stretches between checkpoints.", show_default=False),
    ] = None,
    segment: Annotated[
        list[int] | None,
        typer.Option(metavar="K", help="Audit: this stretch, from 1; repeatable.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that verify stretches in parallel.")] = 1,
    processes: Processes = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="X",
            help="Where code or environment differ: so near to the recorded metrics is consistent.",
            show_default=False,
        ),
    ] = None,
    accept_consistent: Annotated[
        bool, typer.Option("--accept-consistent", help="Exit code 0 for the verdict consistent, too.")
    ] = False,
    data_root: DataRoot = None,
    model_file: Annotated[
        Path | None,
        typer.Option(help="For a bundle: your copy of the file with the run's own model.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="For a bundle: your copy of the file that the run began from.", show_default=False),
    ] = None,
    dataset_file: Annotated[
        Path | None,
        typer.Option(help="For a bundle: your copy of the file with the run's own dataset.", show_default=False),
    ] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a recorded configuration again, compare it step for step, give a verdict."""
    if segments is not None and segment:
        raise RequestError("--segments and --segment exclude each other", "choose how many, or which")
    if tolerance is not None and (segments is not None or segment):
        raise RequestError("--tolerance judges the metrics of a whole run, not of segments", "leave one of them out")
    if tolerance is not None and not math.isfinite(tolerance):
        raise RequestError(f"--tolerance must be a finite number, got {tolerance}", "for example --tolerance 0.01")
    if jobs > 1 and (processes or 1) > 1:
        raise RequestError("--jobs and --processes exclude each other", "choose stretches beside each other, or shards")
    is_bundle = run.endswith(".zip") or Path(run).is_file()
    brought = Brought(model_file, weights, dataset_file)
    if not is_bundle and any(brought):
        raise ConfigError(
            f"--model-file, --weights and --dataset-file go with a bundle, and {run} is a run", "leave them out"
        )

    from genmed.cli.output import print_json
    from genmed.workflows.verification.options import Options

    options, place = Options(full, segments, tuple(segment or ()), jobs, tolerance), root_folder(root)
    if is_bundle:
        report = _verify_bundle(Path(run), place, options, data_root, brought, processes)
    else:
        report = _verify_run(run, place, options, data_root, processes)
    print_json(report.to_json()) if json else _print_report(report)
    raise typer.Exit(report.exit_code(accept_consistent))


def _verify_run(run: str, root: Path, options: "Options", data_root: Path | None, processes: int | None) -> "Report":
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import find_run

    folder = find_run(run, root)
    try:
        config = read_config(folder, folder.read())
    except RequestError:
        config = None  # the verdict will say what is wrong with it
    if config:
        _start(config, options, processes)

    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import verify

    with open_screen() as screen:
        return verify(folder, root, screen, options, data_root=data_root)


def _verify_bundle(
    bundle: Path,
    root: Path,
    options: "Options",
    data_root: Path | None,
    brought: Brought,
    processes: int | None,
) -> "Report":
    from genmed.workflows.bundle import opened, read_bundled_config, refuse_missing_code, trusted_config

    recorded = read_bundled_config(bundle)
    try:
        config = trusted_config(recorded, data_root, *brought)
    except ConfigError as error:
        raise ConfigError(f"{bundle}: {error.message}", error.hint) from None
    # By then nothing is left unpacked: the process does not come back.
    _start(config, options, processes)

    from genmed.cli.screen import open_screen
    from genmed.workflows.verify import verify

    with opened(bundle) as folder, open_screen() as screen:
        refuse_missing_code(bundle, folder, config)
        return verify(folder, root, screen, options, config=config, keep=False)


def _start(config: "Config", options: "Options", processes: int | None) -> None:
    """Goes on in a process that was started for the config, or ends with what several of them came to."""
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.launch import choose_processes, launch

    config = choose_processes(config, 1 if options.jobs > 1 else processes)
    launch(config)
    restart(interpreter_variables(config), beside=options.jobs > 1 or config.compute.processes > 1)


def _print_report(report: "Report") -> None:
    import sys

    from genmed.cli.output import print_table, show_difference, show_number
    from genmed.cli.results import print_pairs

    rows = [
        [m.name, show_number(m.recorded), show_number(m.found), show_difference(m.difference)] for m in report.metrics
    ]
    if any(entry.found is not None for entry in report.metrics):
        print_table(["metric", "recorded", "found", "difference"], rows, numbers=["recorded", "found", "difference"])
    if report.code_diff:
        print(f"{report.code_diff}\n" if sys.stdout.isatty() else report.code_diff)
    pairs = [("run", report.run)]
    if report.status != "completed":
        pairs.append(("status", f"{report.status}: compared as far as it was recorded, without final metrics"))
    pairs += [("steps compared", f"{report.steps_compared} of {report.steps_total}")]
    pairs += [("segment", entry.describe().removeprefix("segment ")) for entry in report.segments]
    if parted := report.first_divergence:
        pairs.append(("first difference", f"step {parted.step}, epoch {parted.epoch}: {parted.field}"))
    if report.localisation:
        pairs.append(("where", report.localisation.says))
    pairs += _describe_causes(report)
    if report.bounds:
        pairs.append(("judged by", report.bounds.says))
    if report.next_step:
        pairs.append(("next step", report.next_step))
    print_pairs([*pairs, ("verdict", report.headline)])


def _describe_causes(report: "Report") -> list[tuple[str, str]]:
    """What is not as recorded, and the problems. Of data the first few: the problem would say them again."""
    causes = [entry.describe() for entry in report.cause if entry.part != "determinism"]
    if not report.data_differences:
        return [
            *(("not as recorded", cause) for cause in causes),
            *(("problem", problem) for problem in report.problems),
        ]
    told = causes[:MOST_DIFFERENCES]
    if more := report.data_differences - len(told):
        told.append(f"and {more:,} more")
    return [("not as recorded", cause) for cause in told]
