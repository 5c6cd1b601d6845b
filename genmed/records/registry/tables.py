"""The registry's rows and tables: SQLModel classes whose column types every database has.

A row class (`RunRow`) is frozen, validated data; the table class that inherits from it (`RunTable`) only defines the
columns. Rows are read and written as plain columns: 10,000 runs take a third of the time that ORM objects take.

A change here needs a new migration beside the old ones in `migrations/versions/`, and a new `HEAD` in `migrate.py`.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, StringConstraints
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

Status = Literal["running", "completed", "interrupted", "failed"]
FINAL = -1
"""The epoch under which a run's final metrics stand: a null would not count as equal in a unique key."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: UTC in the database, aware in Python; a naive one is refused. SQLite itself would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        assert value is None or value.tzinfo is not None, f"a time without a zone: {value}"
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value and value.replace(tzinfo=UTC)
        return value.astimezone(UTC)


class Whole(TypeDecorator[int]):
    """An integer of 64 bits; in SQLite every INTEGER is one."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "postgresql" else Integer())


# Named, so that a later migration can drop a constraint by its name on every database.
NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Record(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMES))):
    """The root of all rows, with tables of its own: a user's SQLModel classes may have the same names."""

    model_config = {"frozen": True, "extra": "forbid"}


class RunSummary(Record):
    """A run's identity, life and progress: what lists and searches need. Times are aware, in UTC."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")] = Field(primary_key=True)
    """8 hexadecimal digits."""
    name: str = Field(unique=True, min_length=1)
    path: str
    """The run's folder, relative to the root: `runs/<name>`."""
    status: Status = Field(sa_type=String)
    seed: int = Field(sa_type=BigInteger)
    dataset: str
    model: str
    device: str
    config_fingerprint: str | None = None
    """Of the config's fields that affect bits; equal for the runs of one study but for the seed."""
    created: AwareDatetime = Field(sa_type=UtcDateTime)
    started: AwareDatetime | None = Field(default=None, sa_type=UtcDateTime)
    ended: AwareDatetime | None = Field(default=None, sa_type=UtcDateTime)
    host: str | None = None
    boot_id: str | None = None
    pid: int | None = Field(default=None, sa_type=Whole)
    process_started: float | None = Field(default=None, sa_type=Double)
    """Seconds since 1970, as psutil gives it; with host, boot and pid it tells a living process from a dead one."""
    heartbeat: AwareDatetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the run's process last wrote; the judge of runs on other hosts."""
    parent: str | None = None
    """Id of the run that this one continues or repeats; that run may be gone."""
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    note: str = ""
    epochs_total: int | None = Field(default=None, sa_type=Whole)
    epochs_done: int = Field(default=0, sa_type=Whole)
    steps_done: int = Field(default=0, sa_type=BigInteger)
    fingerprint: str | None = None
    """State fingerprint of the final state."""
    trace_digest: str | None = None
    error: str | None = None
    hidden: bool = False


class RunRow(RunSummary):
    """A run with all that it was made from: config, data, code and environment."""

    data_fingerprint: str | None = None
    code_digest: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    accepted: list[Any] = Field(default_factory=list, sa_type=JSON)
    """Changes of code or environment that a resume was told to accept."""
    config: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    hardware: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """CPU model, cores, GPUs."""
    versions: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """python, torch and other packages."""


class CheckpointRow(Record):
    """A checkpoint that is on the disk now."""

    run_id: str = Field(primary_key=True, foreign_key="runs.id", ondelete="CASCADE")
    path: str = Field(primary_key=True)
    """Relative to the run's folder."""
    epoch: int = Field(sa_type=Whole)
    step: int = Field(sa_type=BigInteger)
    sha256: str
    """Of its manifest."""
    kinds: list[str] = Field(default_factory=list, sa_type=JSON)
    """Why it is kept: `best`, `last`, ..."""
    created: AwareDatetime = Field(sa_type=UtcDateTime)


class VerificationRow(Record):
    """What one `verify` of the run found."""

    run_id: str = Field(foreign_key="runs.id", ondelete="CASCADE", index=True)
    created: AwareDatetime = Field(sa_type=UtcDateTime)
    verdict: str
    steps_compared: int = Field(sa_type=BigInteger)
    steps_total: int = Field(sa_type=BigInteger)
    report: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class EvaluationRow(Record):
    """What a run came to on one set of images; the newest of each name."""

    run_id: str = Field(primary_key=True, foreign_key="runs.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    """`test`: the run's own test images."""
    created: AwareDatetime = Field(sa_type=UtcDateTime)
    dataset: str
    split: str
    images: int = Field(sa_type=BigInteger)
    report: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """The headline: metrics over all classes, and counts; classes and groups stand in the run's folder."""


class RunTable(RunRow, table=True):
    __tablename__ = "runs"
    __table_args__ = (Index(None, "created", "id"),)
    name_seal: str | None = None
    seal: str | None = None
    """Of the summary; `seals.py` has what each covers."""
    rest_seal: str | None = None


class CheckpointTable(CheckpointRow, table=True):
    __tablename__ = "checkpoints"
    seal: str | None = None


class MetricTable(Record, table=True):
    """One number of one epoch, or of the whole run (`FINAL`); null where it is undefined."""

    __tablename__ = "metrics"
    run_id: str = Field(primary_key=True, foreign_key="runs.id", ondelete="CASCADE")
    epoch: int = Field(primary_key=True, sa_type=Whole)
    name: str = Field(primary_key=True)
    value: float | None = Field(default=None, sa_type=Double)
    seal: str | None = None
    """Of all metrics of the epoch."""


class VerificationTable(VerificationRow, table=True):
    __tablename__ = "verifications"
    number: int | None = Field(default=None, primary_key=True)
    seal: str | None = None


class EvaluationTable(EvaluationRow, table=True):
    __tablename__ = "evaluations"
    seal: str | None = None


RUNS: Table = Record.metadata.tables["runs"]
CHECKPOINTS: Table = Record.metadata.tables["checkpoints"]
METRICS: Table = Record.metadata.tables["metrics"]
VERIFICATIONS: Table = Record.metadata.tables["verifications"]
EVALUATIONS: Table = Record.metadata.tables["evaluations"]
