"""Images with a run's scores and all that is known of them: the rows that results are made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genmed.ground.errors import RecordError
from genmed.ground.fingerprints import digest_file
from genmed.ground.sealed import read_sealed
from genmed.parts.data.records import EXCLUSIVE, UNKNOWN, TaskKind
from genmed.parts.data.traits import TRAITS
from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.measuring import pool_studies
from genmed.parts.metrics.sample import Sample
from genmed.records.run_folder import RunFolder
from genmed.workflows.identity import read_images

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Some images, or, once pooled, some studies."""

    classes: tuple[str, ...]
    kind: TaskKind
    ids: tuple[str, ...]
    scores: Scores
    """(N, L) probabilities."""
    truth: Truth
    """(N, L): 1, 0, or -1 for unknown."""
    patients: tuple[str, ...] = ()
    """Empty where nobody knows them, like all below."""
    studies: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    traits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dataset: str = ""
    """Of which the images are."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unit(self) -> str:
        """What a resample draws."""
        return "patient" if self.patients else "study" if self.studies else "image"

    @property
    def units(self) -> tuple[str, ...]:
        """(N,): of which patient each is; of which study or image where nobody knows."""
        return self.patients or self.studies or self.ids

    def choose(self, rows: Rows) -> Scored:
        """Some of them."""

        def pick(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows) if values else ()

        return replace(
            self,
            ids=pick(self.ids),
            scores=self.scores[rows],
            truth=self.truth[rows],
            patients=pick(self.patients),
            studies=pick(self.studies),
            sites=pick(self.sites),
            traits={trait: pick(values) for trait, values in self.traits.items()},
        )

    def pool(self) -> Scored:
        """A row a study, where images of a study are judged together: not where classes exclude each other.

        A trait stays where all images of a study share it: its score may be of any of its views.
        """
        if not self.studies or self.kind in EXCLUSIVE:
            return self
        scores, truth = pool_studies(self.scores, self.truth, self.studies)
        _, first = np.unique(np.asarray(self.studies), return_index=True)
        traits = {trait: _keep_shared(values, self.studies) for trait, values in self.traits.items()}
        return replace(self.choose(first), scores=scores, truth=truth, traits=traits)

    def to_sample(self, thresholds: Mapping[str, float | None]) -> Sample:
        """For metrics and resamples."""
        _, codes = np.unique(np.asarray(self.units), return_inverse=True)
        return Sample(
            self.scores, self.truth, codes.astype(np.int64), self.classes, self.kind, thresholds, self.dataset
        )


def _keep_shared(values: Sequence[str], studies: Sequence[str]) -> tuple[str, ...]:
    """One a study, in order of the studies; '' where its images differ."""
    found: dict[str, set[str]] = {}
    for study, value in zip(studies, values, strict=True):
        found.setdefault(study, set()).add(value)
    return tuple(next(iter(found[study])) if len(found[study]) == 1 else "" for study in sorted(found))


def read_scored(folder: RunFolder, side: str, path: Path | None = None) -> Scored:
    """Validation or test of a finished run, from its own tables. Raises RecordError where they are damaged.

    path: the table of scores; that of the state that was selected unless given.
    """
    path, recorded = path or folder.predictions_path, folder.read().files
    if path.name in recorded and path.is_file() and digest_file(path) != recorded[path.name]:
        raise RecordError(f"{path} is damaged or was edited: it fails its digest in {folder.document_path}")
    described = read_sealed(folder.data_path)
    classes = tuple(described["classes"])
    images = read_images(folder)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == side]
        known = [images[row["id"]] for row in rows]
        truth = [[int(row[f"truth_{name}"] or UNKNOWN) for name in classes] for row in rows]
        scores = [[float(row[f"score_{name}"]) for name in classes] for row in rows]
    except FileNotFoundError:
        raise RecordError(f"{path} is missing", "a run has it when it is complete") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise RecordError(f"{path} is damaged: {error}") from None
    if not rows:
        raise RecordError(f"{path} has no image of {side}")

    def take(column: str) -> tuple[str, ...]:
        values = tuple(row.get(column) or "" for row in known)
        return values if any(values) else ()

    return Scored(
        classes=classes,
        kind=described.get("task", "multi-label"),
        ids=tuple(row["id"] for row in rows),
        scores=np.array(scores, dtype=np.float32),
        truth=np.array(truth, dtype=np.int8),
        patients=take("patient"),
        studies=take("study"),
        sites=take("site"),
        traits={trait: values for trait in TRAITS if (values := take(trait))},
        dataset=described["dataset"],
    )
