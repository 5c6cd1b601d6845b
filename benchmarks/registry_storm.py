"""Many processes that write runs into one registry at once: is a row lost, is anybody turned away?

    uv run python benchmarks/registry_storm.py [--database sqlite|postgresql] [--restart] [--processes 16]
                                               [--runs 200] [--epochs 10]

Real processes begin together and share the runs. What each writes of a run is what a training writes: the run, each
epoch's metrics, checkpoints and a sign of life, final metrics, an evaluation, a verification; each is a transaction of
its own. PostgreSQL is a server of its own on loopback that syncs each commit; `--restart` kills it when half of the
runs are complete, and starts it anew. In the end all is read back and held against what was written. Printed: runs that
are complete, rows (one a run, metric, checkpoint, evaluation, verification) and those lost, errors that a writer got,
how many of them were of a lock, the longest that one write took, seconds for all. Exit code 1 if a row is lost, or a
writer got an error.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from printing import describe_machine, print_table

from genmed.ground.errors import GenmedError
from genmed.records.registry import (
    FINAL,
    CheckpointRow,
    EvaluationRow,
    Registry,
    RunRecord,
    RunRow,
    VerificationRow,
    open_registry,
)

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' server

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = 20
"""Of each epoch, and final ones."""
KEPT = 3
"""Checkpoints; the oldest goes when there are more."""
PRELOAD = ["genmed.records.registry", "alembic.command", "psycopg"]


@dataclass
class Told:
    """What a process tells of its writes."""

    errors: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    longest: float = 0.0


def make_record(number: int, epochs: int) -> RunRecord:
    """What the registry holds of a run in the end."""
    run_id, created = f"{number:08x}", BEGIN + timedelta(seconds=number)
    name = f"storm-s{number}-{run_id}"
    run = RunRow(
        id=run_id,
        name=name,
        path=f"runs/{name}",
        status="completed",
        seed=number,
        dataset="storm",
        model="resnet50",
        device="cpu",
        created=created,
        started=created,
        ended=created + timedelta(hours=1),
        tags=["storm"],
        config={f"section.key_{key}": key / 7 for key in range(100)},
        epochs_total=epochs,
        epochs_done=epochs,
        steps_done=100 * epochs,
        fingerprint=f"sha256:{number:064x}",
    )
    numbers = range(METRICS)
    of_epoch = {epoch: {f"val_{i}": (number + epoch) / (i + 1) for i in numbers} for epoch in range(epochs)}
    final = {FINAL: {f"test_{i}": number / (i + 1) for i in numbers}}
    report = {"metrics": {"test_auroc_macro": {"value": number / 1000}}}
    evaluation = EvaluationRow(
        run_id=run_id, name="test", created=created, dataset="storm", split="test", images=number, report=report
    )
    verification = VerificationRow(
        run_id=run_id, created=created, verdict="identical", steps_compared=1, steps_total=1, report={"cause": []}
    )
    kept = list_checkpoints(run_id, epochs - 1)
    return RunRecord(run, {**of_epoch, **final}, kept, [verification], [evaluation])


def list_checkpoints(run_id: str, epoch: int) -> list[CheckpointRow]:
    """Those that are kept after this epoch."""
    return [
        CheckpointRow(
            run_id=run_id,
            path=f"checkpoints/step-{100 * number:07}",
            epoch=number,
            step=100 * number,
            sha256=f"sha256:{number:064x}",
            kinds=["last"] if number == epoch else [],
            created=BEGIN + timedelta(minutes=number),
        )
        for number in range(max(0, epoch - KEPT + 1), epoch + 1)
    ]


def list_writes(record: RunRecord, epochs: int) -> Iterator[Callable[[Registry], Any]]:
    """Of a training, one after the other."""
    run, run_id = record.run, record.run.id
    beginning = {"status": "running", "ended": None, "epochs_done": 0, "steps_done": 0, "fingerprint": None}
    born = run.model_copy(update=beginning)
    yield lambda registry: registry.add_run(born)
    for epoch in range(epochs):
        metrics, kept = record.metrics[epoch], list_checkpoints(run_id, epoch)
        yield partial(Registry.record_epoch, run_id=run_id, epoch=epoch, metrics=metrics, epochs_done=epoch + 1)
        yield partial(Registry.record_checkpoints, run_id=run_id, checkpoints=kept, steps_done=100 * (epoch + 1))
        yield partial(Registry.beat, run_id=run_id)
    end = {"status": "completed", "ended": run.ended, "fingerprint": run.fingerprint}
    yield lambda registry: registry.record_final_metrics(run_id, record.metrics[FINAL], **end)
    yield lambda registry: registry.record_evaluation(record.evaluations[0])
    yield lambda registry: registry.record_verification(record.verifications[0])


def write_runs(root: Path, url: str, numbers: range, epochs: int, barrier: Any, complete: Any, answers: Any) -> None:
    """In a process of its own."""
    os.environ["GENMED_REGISTRY"] = url
    registry = open_registry(root, create=True)
    assert registry is not None
    told = Told()
    barrier.wait()
    for number in numbers:
        for write in list_writes(make_record(number, epochs), epochs):
            start = time.monotonic()
            try:
                write(registry)
            except GenmedError as error:
                told.errors[error.say()] += 1
            except Exception as error:
                told.errors[f"{type(error).__name__}: {error}"] += 1
            told.writes, told.longest = told.writes + 1, max(told.longest, time.monotonic() - start)
        with complete.get_lock():
            complete.value += 1
    answers.put(told)


def count_rows(registry: Registry, record: RunRecord) -> tuple[int, int]:
    """How many rows there should be of a run, and how many of them are there as they were written."""
    run_id = record.run.id
    try:
        row = registry.run(run_id)
    except GenmedError:
        row = None
    found = registry.metrics(run_id)
    wanted: list[Any] = [record.run, *record.checkpoints, *record.verifications, *record.evaluations]
    there: list[Any] = [row and row.model_copy(update={"heartbeat": None}), *registry.checkpoints(run_id)]
    there += [*registry.verifications(run_id), *registry.evaluations(run_id)]
    numbers = [(epoch, name, value) for epoch, of_epoch in record.metrics.items() for name, value in of_epoch.items()]
    kept = sum(name in found.get(epoch, {}) and found[epoch][name] == value for epoch, name, value in numbers)
    surplus = max(0, len(there) - len(wanted)) + max(0, sum(map(len, found.values())) - len(numbers))
    return len(wanted) + len(numbers), sum(entry in there for entry in wanted) + kept - surplus


@contextmanager
def database(kind: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Its URL, empty for the file in the root; and how it is restarted."""
    if kind == "sqlite":
        yield "", lambda: None
        return
    from tests.registries.postgresql import Server

    server = Server(durable=True)
    try:
        yield server.make_blank(), server.restart
    finally:
        server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--restart", action="store_true", help="the server, when half of the runs are complete")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args()
    if chosen.restart and chosen.database != "postgresql":
        parser.error("--restart goes with --database postgresql: a file has no server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as name, database(chosen.database) as (url, restart):
        root, answers = Path(name), context.SimpleQueue()
        barrier, complete = context.Barrier(chosen.processes + 1), context.Value("i", 0)
        shared = (chosen.epochs, barrier, complete, answers)
        shares = [range(chosen.runs)[first :: chosen.processes] for first in range(chosen.processes)]
        processes = [context.Process(target=write_runs, args=(root, url, share, *shared)) for share in shares]
        for process in processes:
            process.start()
        barrier.wait()
        start = time.monotonic()
        if chosen.restart:
            while complete.value < chosen.runs // 2 and any(process.is_alive() for process in processes):
                time.sleep(0.01)
            restart()
        for process in processes:
            process.join()
        seconds = time.monotonic() - start
        told = []
        while not answers.empty():
            told.append(answers.get())
        os.environ["GENMED_REGISTRY"] = url
        registry = open_registry(root, create=False)
        assert registry is not None
        registry.check()
        counted = [count_rows(registry, make_record(number, chosen.epochs)) for number in range(chosen.runs)]
        known = registry.count()
    errors = sum((entry.errors for entry in told), Counter[str]())
    errors["a process died"] += len(processes) - len(told)
    wanted, kept = sum(count for count, _ in counted), sum(count for _, count in counted)
    print(describe_machine("sqlalchemy", *(["psycopg"] if chosen.database == "postgresql" else [])))
    cells = {
        "database": chosen.database + (", restarted" if chosen.restart else ""),
        "processes": str(chosen.processes),
        "runs complete": f"{sum(count == there for count, there in counted)} of {chosen.runs}",
        "rows": f"{wanted:,}",
        "rows lost": f"{wanted - kept:,}",
        "errors": str(errors.total()),
        "of a lock": str(sum(count for error, count in errors.items() if "locked" in error)),
        "writes": f"{sum(entry.writes for entry in told):,}",
        "longest": f"{max((entry.longest for entry in told), default=0):.2f} s",
        "seconds": f"{seconds:.1f}",
    }
    print_table(list(cells), [list(cells.values())])
    for error, count in errors.most_common(5):
        if count:
            print(f"{count} times: {error}")
    return int(wanted != kept or errors.total() > 0 or known != chosen.runs)


if __name__ == "__main__":
    sys.exit(main())
