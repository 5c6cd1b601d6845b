"""Rows and registries for the tests, and fresh processes that use them."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, select
from sqlalchemy.engine import Engine

from genmed.ground.errors import StorageError
from genmed.records.registry import CheckpointRow, EvaluationRow, Registry, RunRow, VerificationRow, open_registry
from genmed.records.registry.tables import Record

START = datetime(2026, 1, 28, 19, 30, tzinfo=UTC)
PROCESSES = multiprocessing.get_context("spawn")


def make_run(run_id: str = "3fa9c2d1", **fields: Any) -> RunRow:
    name = fields.pop("name", f"nih-resnet50-s42-{run_id}")
    given = {"path": f"runs/{name}", "status": "running", "seed": 42, "dataset": "nih", "model": "resnet50"}
    return RunRow(**{"id": run_id, "name": name, "device": "cpu", "created": START, **given, **fields})


def make_checkpoint(run_id: str, step: int, created: datetime = START) -> CheckpointRow:
    path = f"checkpoints/step-{step}"
    return CheckpointRow(
        run_id=run_id, path=path, epoch=0, step=step, sha256="sha256:ef", kinds=["last"], created=created
    )


def make_verification(run_id: str, verdict: str, created: datetime = START) -> VerificationRow:
    return VerificationRow(
        run_id=run_id, created=created, verdict=verdict, steps_compared=1, steps_total=2, report={"cause": []}
    )


def make_evaluation(run_id: str, name: str = "test", created: datetime = START, **fields: Any) -> EvaluationRow:
    given: dict[str, Any] = {"dataset": "nih", "split": "test", "images": 5, "report": {"metrics": {}}, **fields}
    return EvaluationRow(run_id=run_id, name=name, created=created, **given)


def make_registry(root: Path, *runs: RunRow) -> Registry:
    registry = open_registry(root, create=True)
    assert registry is not None
    for run in runs:
        registry.add_run(run)
    return registry


def refused(root: Path, *, create: bool) -> StorageError:
    with pytest.raises(StorageError) as caught:
        open_registry(root, create=create)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def run_python(code: str, *arguments: object) -> str:
    """What a fresh interpreter prints, on stdout and stderr; a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def dump(registry: Registry) -> dict[str, list[Any]]:
    """All rows of all tables, with all columns."""

    def read(connection: Connection) -> dict[str, list[Any]]:
        tables = Record.metadata.sorted_tables
        return {
            table.name: [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in tables
        }

    return registry.read(read)


def run_process(target: Callable[[Path], None], root: Path) -> int | None:
    """The exit code of a fresh process that runs `target(root)`."""
    process = PROCESSES.Process(target=target, args=(root,))
    process.start()
    process.join()
    return process.exitcode


@contextmanager
def started(target: Any, root: Path, count: int, server: ForkServerContext) -> Iterator[list[ForkServerProcess]]:
    """Real processes that run `target(root, number, barrier)`, forked from one that has imported all they need; all
    come to a good end.
    """
    barrier, told = server.Barrier(count), {"GENMED_REGISTRY": os.environ.get("GENMED_REGISTRY", "")}
    processes = [server.Process(target=_begin, args=(target, told, root, number, barrier)) for number in range(count)]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _begin(target: Any, told: dict[str, str], *arguments: object) -> None:
    os.environ.update(told)
    target(*arguments)


def run_processes(target: Any, root: Path, count: int, server: ForkServerContext) -> None:
    with started(target, root, count, server):
        pass


@contextmanager
def watch_queries() -> Iterator[list[str]]:
    """The statements that this process sends to any registry meanwhile."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
