"""Bundles: a run in one file, which another laboratory verifies on its own copy of the data."""

from genmed.workflows.bundle.export import CHECKPOINTS, Export, export_bundle
from genmed.workflows.bundle.opening import opened, read_bundled_config
from genmed.workflows.bundle.trust import refuse_missing_code, trusted_config

__all__ = [
    "CHECKPOINTS",
    "Export",
    "export_bundle",
    "opened",
    "read_bundled_config",
    "refuse_missing_code",
    "trusted_config",
]
