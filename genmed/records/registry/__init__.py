"""The registry: an index of the runs, for lists and searches. What it says of a run stands in the run's folder.

SQLite in the root by default, another database by GENMED_REGISTRY. If it is lost it is rebuilt from `runs/`.
"""

from genmed.records.registry.copying import Copied, Existing, copy_registry
from genmed.records.registry.finding import RunName
from genmed.records.registry.opening import open_place, open_registry, set_aside
from genmed.records.registry.place import find_place, is_same, name_place, parse_place, registry_url
from genmed.records.registry.refusals import DamageError
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
    "Copied",
    "DamageError",
    "EvaluationRow",
    "Existing",
    "Registry",
    "RunName",
    "RunRecord",
    "RunRow",
    "RunSummary",
    "Status",
    "VerificationRow",
    "copy_registry",
    "find_place",
    "is_same",
    "name_place",
    "open_place",
    "open_registry",
    "parse_place",
    "registry_url",
    "set_aside",
]
