"""The registry: an index of the runs, for lists and searches. What it says of a run stands in the run's folder.

SQLite in the root by default, another database by GENMED_REGISTRY. If it is lost it is rebuilt from `runs/`.
"""

from genmed.records.registry.finding import RunName
from genmed.records.registry.opening import open_registry, registry_url, set_aside
from genmed.records.registry.rows import RunRecord
from genmed.records.registry.store import Registry
from genmed.records.registry.tables import (
    FINAL,
    CheckpointRow,
    EvaluationRow,
    RunRow,
    RunSummary,
    Status,
    VerificationRow,
)

__all__ = [
    "FINAL",
    "CheckpointRow",
    "EvaluationRow",
    "Registry",
    "RunName",
    "RunRecord",
    "RunRow",
    "RunSummary",
    "Status",
    "VerificationRow",
    "open_registry",
    "registry_url",
    "set_aside",
]
