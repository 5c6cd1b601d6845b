"""verify: runs a recorded configuration again, compares it step for step, gives a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from genmed.engine.trace import Divergence
from genmed.ground.errors import (
    ConfigError,
    DataError,
    GenmedError,
    Interrupted,
    RecordError,
    RequestError,
    StorageError,
)
from genmed.ground.team import ALONE, Team, TookPart, speaks
from genmed.ground.user_files import is_user_file
from genmed.records.config import Config
from genmed.records.run_folder import RunDocument, RunFolder, now
from genmed.workflows.assemble import assemble
from genmed.workflows.claim import refuse_running
from genmed.workflows.code import diff_code, find_code, read_code
from genmed.workflows.identity import (
    Mismatch,
    compare_code,
    compare_data,
    compare_environment,
    compare_weights,
    read_config,
)
from genmed.workflows.index import verification_row, write_now
from genmed.workflows.integrity import check_trace, find_damage
from genmed.workflows.recording import StopSignal
from genmed.workflows.report.run import refresh_verdict
from genmed.workflows.reporting import Reporter
from genmed.workflows.team import agree, joined
from genmed.workflows.verification.localise import WITHOUT_ARITHMETIC, localise
from genmed.workflows.verification.options import Options
from genmed.workflows.verification.parallel import Assignment, run_beside, start_server
from genmed.workflows.verification.report import (
    Bounds,
    Localisation,
    MetricComparison,
    Report,
    SegmentReport,
)
from genmed.workflows.verification.rerun import ASSEMBLE, END, Found, Rerun, assist_reruns
from genmed.workflows.verification.spread import bounds_of_seeds, bounds_of_tolerance
from genmed.workflows.verification.stretches import Stretch, choose, join, list_kept, list_stretches
from genmed.workflows.verification.verdict import judge, order_by_likelihood

MOST_IMAGES = 100
PLAIN = Options()
NOT_AGAIN = {f"checkpoints.{key}": None for key in ("every_steps", "keep_every_steps", "keep_every_epochs")}
"""States that the run was to keep; of what is computed again the ends of epochs are enough."""


def verify(
    folder: RunFolder,
    root: Path,
    reporter: Reporter,
    options: Options = PLAIN,
    *,
    data_root: Path | None = None,
    config: Config | None = None,
    keep: bool = True,
) -> Report:
    """Runs the recorded config again in a scratch folder and compares; writes only a verification record.

    Raises TookPart in the other processes of a team.

    data_root: where the data lie now, if not where they lay. config: what to run instead of config.yaml, where that is
    a stranger's. keep: whether the record is written. Raises Interrupted; RequestError where the run is still running,
    or has no such segment.
    """
    document = folder.read()
    refuse_running(folder, document, root)
    with _joined(folder, document, config, data_root) as team:
        if not team.leads:
            assist_reruns(config or read_config(folder, document, data_root), team)
            raise TookPart
        report = _verify(folder, root, document, reporter, options, data_root, config, team)
        team.hear(END, patiently=True)
    if keep:
        _keep(folder, root, reporter, report)
    return report


@contextmanager
def _joined(folder: RunFolder, document: RunDocument, config: Config | None, data_root: Path | None) -> Iterator[Team]:
    """The team for the config, if it can be read; the verdict says what is wrong with it."""
    try:
        config = config or read_config(folder, document, data_root)
    except RequestError:
        if not speaks():
            raise TookPart from None
        yield ALONE
        return
    with joined(config) as team:
        yield team


def _verify(
    folder: RunFolder,
    root: Path,
    document: RunDocument,
    reporter: Reporter,
    options: Options,
    data_root: Path | None,
    config: Config | None,
    team: Team,
) -> Report:
    if options.jobs > 1:
        start_server()
    if damage := find_damage(folder, document):
        return _refuse(document, damage)
    trace = check_trace(folder, document)
    if not trace.lines:
        return _refuse(document, [f"{folder.trace_path} has no step to compare"])
    config = (config or read_config(folder, document, data_root)).replace(**NOT_AGAIN)
    if gone := _find_gone(folder, config):
        return _refuse(document, gone)
    recorded, found_code = read_code(folder), find_code(folder, config)
    code = compare_code(document, recorded, found_code)
    code_diff = diff_code(folder, found_code) if code else ""
    for entry in code:  # before anything of it is run
        reporter.message(f"not as recorded: {entry.describe()}")
    try:
        kept = list_kept(folder)
        stretches = list_stretches(trace, kept, _needs_best(document))
        chosen = choose(stretches, options.segments, options.segment)
        team.hear(ASSEMBLE, patiently=True)
        session = assemble(config, reporter, trust_stamps=False, team=team)
        agree(session)
        changed = compare_data(folder, document, session.data)
        found_code = find_code(folder, config, session.code)  # with what was imported and is not on record
        if (whole_code := compare_code(document, recorded, found_code)) != code:
            code, code_diff = whole_code, diff_code(folder, found_code)
            for entry in code:
                reporter.message(f"not as recorded: {entry.describe()}")
        causes = compare_weights(document, session) + compare_environment(folder, document, session)
    except (RecordError, DataError, ConfigError) as error:
        return replace(_refuse(document, [error.say()], code), code_diff=code_diff)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        problem = f"the data are not those of the run: {changed[0].what}{more}"
        return replace(_refuse(document, [problem], changed[:MOST_IMAGES]), data_differences=len(changed))
    causes = order_by_likelihood(causes)
    for entry in causes:
        reporter.message(f"not as recorded: {entry.describe()}")
    causes = order_by_likelihood(code + causes + _list_accepted(document))
    apart = options.jobs > 1 or len(chosen) < len(stretches)
    elsewhere = any(entry.changes_bits for entry in causes)
    stop = StopSignal()
    with _scratch_folder() as scratch, stop.heard():
        rerun = Rerun(session, document, trace, kept, reporter, stop, scratch, options.full or elsewhere)
        try:
            segments = _compute(rerun, folder, chosen, options.jobs) if apart else []
            found = segments
            if not apart or (elsewhere and len(found) == len(stretches) and not _are_identical(found)):
                found = [rerun.run(join(stretches))]  # else there are no metrics of its own to judge it by
        except RecordError as error:  # a state that is whole and yet does not restore
            return _refuse(document, [error.say()], causes)
        except Exception as error:
            if isinstance(error, GenmedError) or not code:
                raise
            problem = f"the code here fails, and is not as recorded: {type(error).__name__}: {error}"
            return replace(_refuse(document, [problem], causes), code_diff=code_diff)
        divergence = next((entry.divergence for entry in found if entry.divergence), None)
        located = _localise(rerun, divergence, folder) if divergence else None
    report = Report(
        document.name,
        "identical",
        document.true_status,
        steps_compared=sum(entry.steps_compared for entry in found),
        steps_total=len(trace.lines),
        first_divergence=divergence,
        cause=_name_unrepeatable(located) + causes,
        metrics=_compare_metrics(document, found),
        localisation=located,
        segments=[_describe_segment(entry) for entry in segments],
        segments_total=len(stretches) if apart else 0,
        code_diff=code_diff,
    )
    return report if _are_identical(found) else _judge(report, elsewhere, root, document, options)


def _find_gone(folder: RunFolder, config: Config) -> list[str]:
    """Files of the user's that are not where they were; the run has copies of them."""
    named = [config.data.dataset, config.model.name]
    paths = [Path(name.rpartition(":")[0]) for name in named if is_user_file(name)]
    return [
        f"no file {path} (put the run's copy there: {folder.code_path / path.name})"
        for path in paths
        if not path.is_file()
    ]


def _needs_best(document: RunDocument) -> bool:
    """Whether the final metrics are of the best state, which may be of an earlier stretch than the last."""
    return document.status == "completed" and document.config["training.select"] == "best"


def _are_identical(found: Sequence[Found]) -> bool:
    return all(entry.identical for entry in found)


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """For checkpoints of what is computed again. What ends that computation early ends it without a verdict."""
    with tempfile.TemporaryDirectory(prefix="genmed-verify-") as name:
        try:
            yield Path(name)
        except Interrupted as error:
            raise Interrupted(f"verify was stopped by {error.message}: no verdict", "start it again") from None
        except KeyboardInterrupt:
            raise Interrupted("verify was broken off: no verdict", "start it again") from None
        except StorageError as error:
            raise StorageError(error.message, "make room there, or set TMPDIR to a folder with more") from None


def _list_accepted(document: RunDocument) -> list[Mismatch]:
    """The run itself was not made under one code, environment or data."""
    return [
        Mismatch(entry.what, f"{change['what']}, until step {entry.step}", change["recorded"], change["found"], True)
        for entry in document.accepted
        for change in entry.changes
    ]


def _compute(rerun: Rerun, folder: RunFolder, chosen: Sequence[Stretch], jobs: int) -> list[Found]:
    """What came of each stretch, in their order; of none after the first that differs, unless wanted in full."""
    assignment = Assignment(folder.path.absolute(), rerun.session.task.config, rerun.scratch, rerun.full)
    results = run_beside(assignment, chosen, jobs, rerun.stop) if jobs > 1 else _run_one_by_one(rerun, chosen)
    found: list[Found] = []
    for entry in results:
        found.append(entry)
        rerun.reporter.message(_describe_segment(entry).describe())
    return sorted(found, key=lambda entry: entry.stretch.number)


def _run_one_by_one(rerun: Rerun, chosen: Sequence[Stretch]) -> Iterator[Found]:
    for stretch in chosen:
        yield (found := rerun.run(stretch))
        if not found.identical and not rerun.full:
            return


def _localise(rerun: Rerun, divergence: Divergence, folder: RunFolder) -> Localisation | None:
    where = f"step {divergence.step} (epoch {divergence.epoch})"
    rerun.reporter.message(
        "the state before the first step is not the recorded one"
        if divergence.field == "initial"
        else f"{where} has another {divergence.field} than recorded"
    )
    if divergence.field in WITHOUT_ARITHMETIC:
        return None
    rerun.reporter.message(f"computing step {divergence.step} twice more, to see where")
    try:
        return localise(rerun, divergence, folder.modules_path)
    except Interrupted:  # the verdict stands without it
        return None
    except GenmedError as error:
        rerun.reporter.message(f"it cannot be computed again: {error.message}")
        return None


def _name_unrepeatable(located: Localisation | None) -> list[Mismatch]:
    """What does not give the same result twice here and now is the likeliest cause of all."""
    if located is None or located.repeats or located.digests is None:
        return []
    what = f"{located.operation} in {located.module} ({located.kind}), step {located.step}, computed twice"
    return [Mismatch("determinism", what, *located.digests, True)]


def _compare_metrics(document: RunDocument, found: Sequence[Found]) -> list[MetricComparison]:
    """Of a stretch that differs and did not begin with the run, they would be half the recorded state's own."""
    last = found[-1]
    metrics = last.metrics if last.stretch.number == 1 or _are_identical(found) else {}
    return [MetricComparison(name, value, metrics.get(name)) for name, value in document.metrics.items()]


def _describe_segment(found: Found) -> SegmentReport:
    stretch = found.stretch
    return SegmentReport(stretch.number, stretch.after + 1, stretch.last, found.steps_compared, found.identical)


def _judge(report: Report, elsewhere: bool, root: Path, document: RunDocument, options: Options) -> Report:
    """The report on bits that differ, with the verdict, and what it was judged by."""
    complete = any(entry.found is not None for entry in report.metrics)
    bounds = _find_bounds(root, document, options) if complete and elsewhere else None
    verdict = judge(parted=True, elsewhere=elsewhere, bounds=bounds, metrics=report.metrics)
    problems = []
    if bounds and verdict == "diverged":
        problems = [f"{name} is outside of: {bounds.says}" for name in bounds.find_outside(report.metrics)]
    return replace(report, verdict=verdict, bounds=bounds, problems=problems)


def _find_bounds(root: Path, document: RunDocument, options: Options) -> Bounds | None:
    if options.tolerance is not None:
        return bounds_of_tolerance(document.metrics, options.tolerance)
    return bounds_of_seeds(root, document)


def _refuse(document: RunDocument, problems: Sequence[str], causes: Sequence[Mismatch] = ()) -> Report:
    return Report(
        document.name,
        "not comparable",
        document.true_status,
        steps_compared=0,
        steps_total=document.steps_done,
        cause=causes,
        metrics=[MetricComparison(name, value, None) for name, value in document.metrics.items()],
        problems=problems,
    )


def _keep(folder: RunFolder, root: Path, reporter: Reporter, report: Report) -> None:
    """Notes the verdict in the run's folder and in the registry."""
    line = {"created": now().isoformat(), **report.to_json()}
    folder.add_verification(line)
    row = verification_row(folder.read().id, line)
    write_now(root, reporter.message, lambda registry: registry.record_verification(row), create=True)
    refresh_verdict(folder, reporter)
