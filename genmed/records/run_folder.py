"""The folder that a run leaves: its names, `run.json`, the log, the tables."""

import csv
import io
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from genmed.ground.errors import RecordError, StorageError
from genmed.ground.files import storage_errors, sweep_temporaries, sync_folder, temporary_beside, write_text
from genmed.ground.sealed import open_line, read_sealed, seal_line, write_sealed
from genmed.records.environment import identify_process, is_alive

SCHEMA = 1
RUNS = "runs"
LEFT = r"^((metrics|predictions|predictions-last)\.csv|checkpoints/step-[0-9]+-epoch-[0-9]+(-end)?/manifest\.json)$"
"""Names in run.json of what it leaves; it may be a stranger's."""
Status = Literal["running", "completed", "interrupted", "failed"]


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Start(Frozen):
    """Where a run that continues another begins: the state in which that one ended."""

    step: int
    epoch: int
    state: str
    """State fingerprint."""
    chain: str | None
    """Of the other run's trace at that step."""


class AcceptedChange(Frozen):
    """What was not as recorded when the run was resumed all the same."""

    what: Literal["code", "environment", "data"]
    step: int
    """After which the run went on with it."""
    when: datetime
    changes: tuple[dict[str, Any], ...]
    """what, recorded, found: the first 100."""
    count: int
    """Of all."""


class RunDocument(Frozen):
    """`run.json`: who the run is, how it stands, what came out."""

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
    launch: str | None = None
    """What torchrun calls the start of the run's processes, if it has a name: started again by it, the run goes on."""
    tags: tuple[str, ...] = ()
    note: str = ""
    parent: str | None = None
    """Id of the run that this one continues."""
    start: Start | None = None
    """Where it begins, if it continues another."""
    accepted: tuple[AcceptedChange, ...] = ()
    """Never removed."""
    hidden: bool = False
    config: dict[str, Any]
    """What of it affects bits, by dotted key: names what was edited in config.yaml."""
    config_fingerprint: str
    data_fingerprint: str
    code_digest: str
    weights: dict[str, str | None] | None = None
    """Source and digest of initial weights that were loaded."""
    epochs_total: int
    epochs_done: int = 0
    steps_done: int = 0
    best_epoch: int = 0
    checkpoint_step: int = 0
    """Of the newest checkpoint; 0: none was safe yet."""
    metrics: dict[str, float | None] = {}
    """Of the whole run, by the state that `training.select` names."""
    fingerprint: str | None = None
    trace_digest: str | None = None
    files: dict[Annotated[str, StringConstraints(pattern=LEFT)], str] = {}
    """Digests of what else a finished run leaves: its tables, and the manifests of its checkpoints."""
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
        self.code_path = path / "code"
        self.log_path = path / "train.log"
        self.trace_path = path / "trace.jsonl"
        self.modules_path = path / "modules.jsonl"
        self.metrics_path = path / "metrics.csv"
        self.predictions_path = path / "predictions.csv"
        self.last_predictions_path = path / "predictions-last.csv"
        self.checkpoints_path = path / "checkpoints"
        self.bundle_path = path / "bundle.json"
        self.verifications_path = path / "verifications.jsonl"
        self.evaluations_path = path / "evaluations"
        self.report_path = path / "report.html"
        self.plots_path = path / "plots"

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> RunDocument:
        """Raises RecordError where run.json is missing or damaged."""
        document = read_sealed(self.document_path)
        try:
            return RunDocument.model_validate({"schema_": document.pop("schema", None), **document})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RecordError(f"{self.document_path} is damaged: {where}: {first['msg']}") from None

    def write(self, document: RunDocument) -> RunDocument:
        plain = document.model_dump(mode="json")
        write_sealed(self.document_path, {"schema": plain.pop("schema_"), **plain})
        return document

    def update(self, **fields: Any) -> RunDocument:
        """Changes fields of run.json, validated."""
        return self.write(RunDocument.model_validate({**self.read().model_dump(), **fields}))

    def log(self, text: str) -> None:
        """Adds `[2026-01-28 19:30:00] text` to train.log, in local time."""
        with storage_errors(self.log_path), open(self.log_path, "a", encoding="utf-8") as file:
            file.write(f"[{datetime.now():%Y-%m-%d %H:%M:%S}] {text}\n")

    def read_metrics(self) -> list[dict[str, float | None]]:
        """The rows of metrics.csv; empty cells are None. Raises RecordError where it is damaged."""
        try:
            with open(self.metrics_path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
            if "epoch" not in (reader.fieldnames or ()):
                raise ValueError("it has no column epoch")
            return [{name: float(cell) if cell else None for name, cell in row.items()} for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, AttributeError, csv.Error) as error:
            raise RecordError(f"{self.metrics_path} is damaged: {error}") from None

    def write_metrics(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """One row an epoch; whole or not at all."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_table(self.metrics_path, names, ([_cell(row.get(name)) for name in names] for row in rows))

    def add_verification(self, record: Mapping[str, Any]) -> None:
        """Adds a line to verifications.jsonl; one that a crash tore is cut off first."""
        path = self.verifications_path
        with storage_errors(path), open(path, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(seal_line(record).encode())
            file.flush()
            os.fsync(file.fileno())

    def read_verifications(self) -> list[dict[str, Any]]:
        """Whole lines of verifications.jsonl; a torn last one is dropped. Raises RecordError where one is damaged."""
        try:
            lines = self.verifications_path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        whole = [line for line in lines if line.endswith(b"\n")]
        where = f"{self.verifications_path}, line"
        return [open_line(line, f"{where} {number}") for number, line in enumerate(whole, start=1)]


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
def new_run_folder(root: Path, prefix: str) -> Iterator[tuple[str, RunFolder, RunFolder]]:
    """A fresh id; a folder for the caller to fill; and what it is then: `runs/<prefix>-<id>`, whole and on the disk.

    Nothing is left of it where filling it fails.
    """
    runs = root / RUNS
    with storage_errors(root):
        runs.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(runs)
    while True:
        run_id = secrets.token_hex(4)  # not from a seeded generator: two runs of one seed are two runs
        if not any(runs.glob(f"*-{run_id}")):
            break
    final = runs / f"{prefix}-{run_id}"
    building = temporary_beside(final)
    with storage_errors(final):
        building.mkdir()
    try:
        yield run_id, RunFolder(building), RunFolder(final)
        with storage_errors(final):
            sync_folder(building)
            building.rename(final)
            sync_folder(runs)
            sync_folder(root)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def list_run_folders(root: Path, known: Collection[str] = ()) -> list[RunFolder]:
    """All folders below `runs/` that hold a run.json, by name; those whose name is known are left out unseen."""
    runs = root / RUNS
    names = sorted(name for name in os.listdir(runs) if not name.startswith(".")) if runs.is_dir() else []
    return [RunFolder(runs / name) for name in names if name not in known and (runs / name / "run.json").is_file()]


def this_process() -> dict[str, Any]:
    return identify_process()


def now() -> datetime:
    """Aware, in UTC, whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
