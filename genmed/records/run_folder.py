"""The folder that a run leaves: its names, `run.json`, the log, the tables."""

import csv
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from genmed.ground.errors import RecordError, StorageError
from genmed.ground.files import storage_errors, sync_folder, write_json, write_text
from genmed.records.environment import identify_process, is_alive

SCHEMA = 1
RUNS = "runs"
Status = Literal["running", "completed", "interrupted", "failed"]


class RunDocument(BaseModel):
    """`run.json`: who the run is, how it stands, what came out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = 1
    id: str
    name: str
    status: Status
    seed: int
    dataset: str
    model: str
    device: str
    created: datetime
    started: datetime
    ended: datetime | None = None
    process: dict[str, Any]
    """host, boot_id, pid, started: tells whether the process still lives."""
    tags: tuple[str, ...] = ()
    note: str = ""
    parent: str | None = None
    accepted: tuple[str, ...] = ()
    hidden: bool = False
    config_fingerprint: str
    data_fingerprint: str
    code_digest: str
    weights: dict[str, str | None] | None = None
    """Source and digest of initial weights that were loaded."""
    epochs_total: int
    epochs_done: int = 0
    steps_done: int = 0
    best_epoch: int = 0
    metrics: dict[str, float | None] = {}
    """Of the whole run, by the state that `training.select` names."""
    fingerprint: str | None = None
    trace_digest: str | None = None
    error: str | None = None

    @property
    def true_status(self) -> Status:
        """`interrupted` for a run whose process is known to be dead, whatever was written last."""
        return "interrupted" if self.status == "running" and is_alive(self.process) is False else self.status


class RunFolder:
    """Paths and files of one run; nothing is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document_path = path / "run.json"
        self.config_path = path / "config.yaml"
        self.environment_path = path / "environment.json"
        self.data_path = path / "data.json"
        self.images_path = path / "data-images.csv"
        self.log_path = path / "train.log"
        self.trace_path = path / "trace.jsonl"
        self.metrics_path = path / "metrics.csv"
        self.predictions_path = path / "predictions.csv"
        self.checkpoints_path = path / "checkpoints"
        self.verifications_path = path / "verifications.jsonl"

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> RunDocument:
        """Raises RecordError where run.json is missing or damaged."""
        try:
            document = json.loads(self.document_path.read_text(encoding="utf-8"))
            return RunDocument.model_validate({"schema_": document.pop("schema", None), **document})
        except FileNotFoundError:
            raise RecordError(f"{self.document_path} is missing") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RecordError(f"{self.document_path} is damaged: {where}: {first['msg']}") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise RecordError(f"{self.document_path} is damaged: {error}") from None

    def write(self, document: RunDocument) -> RunDocument:
        plain = document.model_dump(mode="json")
        write_json(self.document_path, {"schema": plain.pop("schema_"), **plain})
        return document

    def update(self, **fields: Any) -> RunDocument:
        """Changes fields of run.json, validated."""
        return self.write(RunDocument.model_validate({**self.read().model_dump(), **fields}))

    def log(self, text: str) -> None:
        """Adds `[2026-01-28 19:30:00] text` to train.log, in local time."""
        with storage_errors(self.log_path), open(self.log_path, "a", encoding="utf-8") as file:
            file.write(f"[{datetime.now():%Y-%m-%d %H:%M:%S}] {text}\n")

    def read_json(self, path: Path) -> Any:
        """One of the run's JSON files. Raises RecordError where it is missing or damaged."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecordError(f"{path} is missing") from None
        except ValueError as error:
            raise RecordError(f"{path} is damaged: {error}") from None

    def read_metrics(self) -> list[dict[str, float | None]]:
        """The rows of metrics.csv; empty cells are None. Raises RecordError where it is damaged."""
        try:
            with open(self.metrics_path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return [{name: float(cell) if cell else None for name, cell in row.items()} for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"{self.metrics_path} is damaged: {error}") from None

    def write_metrics(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """One row an epoch; whole or not at all."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_table(self.metrics_path, names, ([_cell(row.get(name)) for name in names] for row in rows))

    def add_verification(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
        with storage_errors(self.verifications_path), open(self.verifications_path, "a", encoding="utf-8") as file:
            file.write(line)

    def read_verifications(self) -> list[dict[str, Any]]:
        """Whole lines of verifications.jsonl; a torn last one is dropped. Raises RecordError where one is damaged."""
        try:
            content = self.verifications_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        try:
            return [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]
        except ValueError as error:
            raise RecordError(f"{self.verifications_path} is damaged: {error}") from None


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def check_root(root: Path) -> None:
    """Raises StorageError where no run can be written below `root`."""
    nearest = root.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise StorageError(f"{nearest} is a file, not a folder", "choose another --root")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise StorageError(f"the folder {nearest} is not writable", "choose another --root")
    if (root / RUNS).exists() and not (root / RUNS).is_dir():
        raise StorageError(f"{root / RUNS} is a file, and runs need a folder of that name", "choose another --root")


@contextmanager
def new_run_folder(root: Path, prefix: str) -> Iterator[tuple[str, RunFolder]]:
    """A fresh id and folder `runs/<prefix>-<id>`, filled by the caller; gone again where that fails."""
    with storage_errors(root):
        (root / RUNS).mkdir(parents=True, exist_ok=True)
    while True:
        run_id = secrets.token_hex(4)  # not from a seeded generator: two runs of one seed are two runs
        if not any((root / RUNS).glob(f"*-{run_id}")):
            break
    folder = RunFolder(root / RUNS / f"{prefix}-{run_id}")
    with storage_errors(folder.path):
        folder.path.mkdir()
    try:
        yield run_id, folder
        sync_folder(folder.path)
        sync_folder(folder.path.parent)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


def list_run_folders(root: Path) -> list[RunFolder]:
    """All folders below `runs/` that hold a run.json, by name."""
    runs = root / RUNS
    return [RunFolder(path.parent) for path in sorted(runs.glob("*/run.json"))] if runs.is_dir() else []


def this_process() -> dict[str, Any]:
    return identify_process()


def now() -> datetime:
    """Aware, in UTC, whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
