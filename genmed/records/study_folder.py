"""The folder of a study, `runs/studies/<name>/`: what it is a grid of, and what came of it.

Its runs lie in `runs/` as all runs do, tagged `study:<name>`; which of them are the study's is told by their own
fingerprints. So a lost folder loses no training: the same command writes it anew and finds what is done.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from genmed.ground.errors import RecordError, RequestError
from genmed.ground.files import storage_errors, sweep_temporaries, sync_folder
from genmed.ground.sealed import read_sealed, write_sealed
from genmed.records.config import Config
from genmed.records.config.sections import unflatten
from genmed.records.run_folder import RUNS, Frozen

STUDIES = "studies"
TAG = "study:"


class StudyCell(Frozen):
    """One point of the grid, trained once a seed."""

    name: str
    settings: dict[str, Any]
    """What sets it apart from the others: dotted key -> value."""
    values: dict[str, Any]
    """Its whole config by dotted key, with the device resolved and the first seed."""
    origins: dict[str, str]
    data_fingerprint: str
    code_digest: str
    """Of genmed and of the files that the config names."""
    code_files: tuple[str, ...] = ()
    """Names of these files of the user's."""
    imported: dict[str, str] = Field(default_factory=dict)
    """Files that runs of the cell were known to import besides when the study was begun or resumed: name -> digest."""
    weights_digest: str | None = None
    """Of the file that it begins from, where that is the user's."""

    def config(self, seed: int) -> Config:
        """Of its run with that seed."""
        return Config.model_validate(unflatten({**self.values, "seed": seed}))


class StudyDocument(Frozen):
    """`study.json`."""

    schema_: Literal[1] = 1
    id: str
    """The first 8 digits of a digest of the seeds and of what of each cell's config affects bits."""
    name: str
    created: datetime
    metric: str
    """By which models are compared: `auroc_macro` and the like, of the test."""
    seeds: tuple[int, ...]
    cells: tuple[StudyCell, ...]

    @property
    def tag(self) -> str:
        """Each of its runs has it."""
        return f"{TAG}{self.name}"


class StudyFolder:
    """Paths and files of one study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document_path = path / "study.json"
        self.results_path = path / "results.json"
        self.lock_path = path / "lock"

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> StudyDocument:
        """Raises RecordError where study.json is missing or damaged."""
        try:
            document = read_sealed(self.document_path)
        except RecordError as error:
            raise RecordError(error.message, MEND) from None
        try:
            return StudyDocument.model_validate({"schema_": document.pop("schema", None), **document})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RecordError(f"{self.document_path} is damaged: {where}: {first['msg']}", MEND) from None

    def write(self, document: StudyDocument) -> StudyDocument:
        """Makes the folder if need be."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path.parent)
        plain = document.model_dump(mode="json")
        write_sealed(self.document_path, {"schema": plain.pop("schema_"), **plain})
        return document

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time works on a study; the system ends it with the process. Raises RequestError."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.lock_path, "a+b")  # noqa: SIM115
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RequestError(f"the study {self.name} is running now", "wait for its end") from None
            sweep_temporaries(self.path, alone=True)
            yield


MEND = "remove it and give the same command again: finished runs are found"


def study_folder(root: Path, name: str) -> StudyFolder:
    return StudyFolder(root / RUNS / STUDIES / name)


def list_study_folders(root: Path) -> list[StudyFolder]:
    """All below `root` that hold a study.json, by name."""
    place = root / RUNS / STUDIES
    names = sorted(name for name in os.listdir(place) if not name.startswith(".")) if place.is_dir() else []
    return [StudyFolder(place / name) for name in names if (place / name / "study.json").is_file()]
