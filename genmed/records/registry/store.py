"""The registry's methods: each one transaction, as short as it can be."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from genmed.ground.errors import ConfigError, RunNotFoundError
from genmed.records.registry.finding import RunName, choose
from genmed.records.registry.postgresql import lock_runs
from genmed.records.registry.queries import (
    run_not_found,
    select_checkpoints,
    select_evaluations,
    select_evaluations_of,
    select_final_metrics,
    select_last_verifications,
    select_metrics,
    select_names,
    select_run,
    select_running,
    select_runs,
    select_verifications,
    select_whole_runs,
)
from genmed.records.registry.refusals import attempt
from genmed.records.registry.rows import (
    Metrics,
    RunRecord,
    check_distinct,
    insert_metrics,
    insert_records,
    insert_rows,
    is_added,
    is_recorded,
    read_progress,
    replace_rows,
    storable,
)
from genmed.records.registry.seals import NAME, RUN_PARTS, check_rows, list_damaged
from genmed.records.registry.tables import (
    CHECKPOINTS,
    EVALUATIONS,
    FINAL,
    METRICS,
    RUNS,
    VERIFICATIONS,
    CheckpointRow,
    EvaluationRow,
    RunRow,
    RunSummary,
    Status,
    VerificationRow,
)

Result = TypeVar("Result")


class Registry:
    """An index of the runs; each run's truth is its folder. Made by `open_registry`.

    Safe to share between threads and to carry through a fork; there is nothing to close. All methods raise
    StorageError where the database cannot be used, and those that take the id of a run RunNotFoundError if it is gone.
    """

    def __init__(self, place: Path | str, reading: Engine, writing: Engine, patience: float | None = None) -> None:
        self.place = place
        self._reading = reading
        self._writing = writing
        self._patience = patience

    @property
    def on_server(self) -> bool:
        """Whether several roots may keep their runs in it."""
        return not isinstance(self.place, Path)

    def with_patience(self, seconds: float) -> "Registry":
        """The same registry, which gives up a database that is locked or away after so many seconds."""
        return Registry(self.place, self._reading, self._writing, seconds)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """The result of `work` on one consistent state of the database."""

        def transaction() -> Result:
            with self._reading.connect() as connection:
                return work(connection)

        return attempt(self.place, transaction, self._patience)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """The result of `work`, done whole or not at all.

        It is called again if the database was locked or away; if the connection broke at the end, also though it was
        done: it must leave the same whether it is done once or twice.
        """

        def transaction() -> Result:
            with self._writing.begin() as connection:
                return work(connection)

        return attempt(self.place, transaction, self._patience)

    def add_run(self, run: RunRow) -> None:
        """Raises ConfigError if a run of that name or id is there already."""
        try:
            self.write(lambda connection: insert_rows(connection, RUNS, [run]))
        except IntegrityError as error:
            if self.read(lambda connection: is_added(connection, run)):
                return  # by an attempt of which nothing was heard, or by a reader that found its folder
            raise ConfigError(f"a run named {run.name} or with id {run.id} exists", "choose another --name") from error

    def update_run(self, run_id: str, **fields: Any) -> None:
        """Sets the given fields of the run's row."""
        self.write(lambda connection: _update(connection, run_id, fields))

    def beat(self, run_id: str) -> None:
        """Notes that the run's process lives."""
        self.update_run(run_id, heartbeat=datetime.now(UTC))

    def record_epoch(self, run_id: str, epoch: int, metrics: Metrics, **run_fields: Any) -> None:
        """The metrics of an epoch, a heartbeat, and fields of the run's row, e.g. `epochs_done`.

        Metrics of this and of later epochs are replaced: they are from before the run was resumed.
        """
        assert epoch >= 0, epoch

        def work(connection: Connection) -> None:
            _update(connection, run_id, {"heartbeat": datetime.now(UTC), **run_fields})
            connection.execute(delete(METRICS).where(METRICS.c.run_id == run_id, METRICS.c.epoch >= epoch))
            insert_metrics(connection, [(run_id, epoch, metrics)])

        self.write(work)

    def record_final_metrics(self, run_id: str, metrics: Metrics, **run_fields: Any) -> None:
        """Replaces the metrics of the whole run; with fields of the run's row, e.g. `status`."""

        def work(connection: Connection) -> None:
            _update(connection, run_id, {"heartbeat": datetime.now(UTC), **run_fields})
            connection.execute(delete(METRICS).where(METRICS.c.run_id == run_id, METRICS.c.epoch == FINAL))
            insert_metrics(connection, [(run_id, FINAL, metrics)])

        self.write(work)

    def record_checkpoints(self, run_id: str, checkpoints: Sequence[CheckpointRow], **run_fields: Any) -> None:
        """Replaces the list of the run's checkpoints: those that are on the disk now."""
        assert all(row.run_id == run_id for row in checkpoints), run_id

        def work(connection: Connection) -> None:
            _update(connection, run_id, {"heartbeat": datetime.now(UTC), **run_fields})
            connection.execute(delete(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id))
            insert_rows(connection, CHECKPOINTS, checkpoints)

        self.write(work)

    def record_verification(self, verification: VerificationRow) -> None:
        def work(connection: Connection) -> None:
            select_run(connection, verification.run_id, lock=True)
            if not is_recorded(connection, verification):  # by an attempt of which nothing was heard
                insert_rows(connection, VERIFICATIONS, [verification])

        self.write(work)

    def record_evaluation(self, evaluation: EvaluationRow) -> None:
        """Takes the place of an older one of that name."""
        run_id, name = evaluation.run_id, evaluation.name

        def work(connection: Connection) -> None:
            select_run(connection, run_id, lock=True)
            connection.execute(delete(EVALUATIONS).where(EVALUATIONS.c.run_id == run_id, EVALUATIONS.c.name == name))
            insert_rows(connection, EVALUATIONS, [evaluation])

        self.write(work)

    def remove_run(self, run_id: str) -> None:
        """Drops the run's row and all that belongs to it; its folder is the caller's."""
        found = False

        def work(connection: Connection) -> None:
            nonlocal found
            try:
                select_run(connection, run_id, lock=True)
            except RunNotFoundError:
                if found:
                    return  # removed by an attempt of which nothing was heard
                raise
            found = True
            connection.execute(delete(RUNS).where(RUNS.c.id == run_id))

        self.write(work)

    def rebuild(self, records: Iterable[RunRecord], *, keep_sound: bool = False) -> int:
        """Makes the registry hold the given runs and no others, in one transaction; returns how many it then holds.

        The records are read before the transaction begins, so trainings go on meanwhile; a run that was added, changed
        or removed since keeps its row. keep_sound: also a run of which there is no record, unless its rows are damaged.
        Raises RecordError if two records have one id or name.
        """
        before = self.read(read_progress)
        held = list(records)
        check_distinct(held)
        kept = before.keys() - self.read(list_damaged) if keep_sound else ()
        return self.write(lambda connection: replace_rows(connection, held, before, kept))

    def replace_run(self, record: RunRecord) -> None:
        """Makes the registry hold this run as its folder tells it, whatever it held of it before."""

        def work(connection: Connection) -> None:
            lock_runs(connection)
            connection.execute(delete(RUNS).where(RUNS.c.id == record.run.id))
            insert_records(connection, [record])

        self.write(work)

    def check(self) -> None:
        """Reads every row, and raises StorageError where one is damaged."""
        self.read(check_rows)

    def count(self, include_hidden: bool = True) -> int:
        """The number of runs."""
        query = select(func.count()).select_from(RUNS)
        if not include_hidden:
            query = query.where(RUNS.c.hidden.is_(False))
        return self.read(lambda connection: connection.execute(query).scalar_one())

    def runs(
        self,
        limit: int | None = None,
        status: Status | None = None,
        dataset: str | None = None,
        tag: str | None = None,
        include_hidden: bool = False,
    ) -> list[RunSummary]:
        """The newest `limit` runs of that status, dataset and tag, newest first; `run` has the rest of each."""
        return self.read(lambda connection: select_runs(connection, limit, status, dataset, tag, include_hidden))

    def running(self) -> list[RunSummary]:
        """The runs that say that a process works on them, hidden ones too."""
        return self.read(select_running)

    def names(self) -> list[RunName]:
        """What the runs go by, newest first, hidden ones too."""
        return self.read(select_names)

    def run(self, run_id: str) -> RunRow:
        """The run with that whole id."""
        return self.read(lambda connection: select_run(connection, run_id))

    def whole_runs(self) -> list[RunRow]:
        """All runs with all that they were made from, hidden ones too."""
        return self.read(select_whole_runs)

    def find(self, reference: str) -> RunRow:
        """The run that a person means: name, id, unique prefix of either, `latest`, `latest~1`.

        Raises RunNotFoundError, its hint naming the candidates or the nearest names.
        """
        return self.read(lambda connection: select_run(connection, choose(reference, select_names(connection))))

    def metrics(self, run_id: str) -> dict[int, dict[str, float | None]]:
        """The run's metrics by epoch and name, None where undefined; those of the whole run under `FINAL` (-1)."""
        return self.read(lambda connection: select_metrics(connection, run_id))

    def final_metrics(self, run_ids: Collection[str]) -> dict[str, dict[str, float | None]]:
        """The final metrics of many runs at once, by id and name."""
        return self.read(lambda connection: select_final_metrics(connection, run_ids))

    def checkpoints(self, run_id: str) -> list[CheckpointRow]:
        """By step, then path."""
        return self.read(lambda connection: select_checkpoints(connection, run_id))

    def verifications(self, run_id: str) -> list[VerificationRow]:
        """Oldest first."""
        return self.read(lambda connection: select_verifications(connection, run_id))

    def last_verifications(self, run_ids: Collection[str]) -> dict[str, VerificationRow]:
        """The newest verification of many runs at once, by id; those that have none are left out."""
        return self.read(lambda connection: select_last_verifications(connection, run_ids))

    def evaluations(self, run_id: str) -> list[EvaluationRow]:
        """Oldest first."""
        return self.read(lambda connection: select_evaluations(connection, run_id))

    def evaluations_of(self, run_ids: Collection[str], name: str) -> dict[str, EvaluationRow]:
        """The evaluation of that name of many runs at once, by id; those that have none are left out."""
        return self.read(lambda connection: select_evaluations_of(connection, run_ids, name))


def _update(connection: Connection, run_id: str, fields: Mapping[str, Any]) -> None:
    """Sets the fields and seals anew the parts that have them, once these are checked: else damage would be sealed."""
    values = _validate(fields)
    for part in [part for part in RUN_PARTS if values.keys() & set(part.columns)] or [NAME]:
        held = list(part.read(connection, lambda query: query.where(RUNS.c.id == run_id).with_for_update()))
        if not held:
            raise run_not_found(run_id)
        values[part.seal_column] = part.seal({**held[0], **values})
    connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(values))


def _validate(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as `RunRow` would hold them: SQLite would take any type in any column, NumPy's integers as bytes."""
    unknown = fields.keys() - RunRow.model_fields.keys() | fields.keys() & {"id"}
    assert not unknown, f"no such fields to set: {sorted(unknown)}"
    kinds: dict[str, Any] = {name: RunRow.model_fields[name].annotation for name in fields}
    return {name: storable(TypeAdapter(kinds[name]).validate_python(value)) for name, value in fields.items()}
