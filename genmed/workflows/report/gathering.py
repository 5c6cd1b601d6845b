"""What a report is made of: the documents of a finished run, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genmed.ground.sealed import read_sealed
from genmed.records.config import Config
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.evaluation.kept import own_results, read_evaluations
from genmed.workflows.evaluation.over_seeds import add_seeds
from genmed.workflows.evaluation.scored import Scored, read_scored
from genmed.workflows.finished import check_complete
from genmed.workflows.identity import read_config
from genmed.workflows.verification.last import is_outdated


@dataclass(frozen=True)
class Gathered:
    """A finished run, as it is recorded."""

    document: RunDocument
    config: Config
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    """With `seeds`."""
    elsewhere: Sequence[Mapping[str, Any]]
    """Evaluations on other images than the run's own test."""
    epochs: list[dict[str, float | None]]
    """The rows of metrics.csv."""
    verification: Mapping[str, Any] | None
    """The last one, unless the run was resumed since."""
    test: Scored
    """The run's own test, image by image."""


def gather(folder: RunFolder) -> Gathered:
    """Raises RequestError where the run is not complete; RecordError where its record is damaged."""
    document = folder.read()
    check_complete(document)
    verifications = [line for line in folder.read_verifications() if not is_outdated(line, document.started)]
    return Gathered(
        document=document,
        config=read_config(folder, document),
        data=read_sealed(folder.data_path),
        environment=read_sealed(folder.environment_path),
        evaluation=add_seeds(folder, own_results(folder)),
        elsewhere=[found for found in read_evaluations(folder).values() if not found["own"]],
        epochs=folder.read_metrics(),
        verification=verifications[-1] if verifications else None,
        test=read_scored(folder, "test"),
    )
