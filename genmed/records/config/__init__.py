"""The config: its fields (`sections`), where values come from (`sources`), how it is written down (`document`)."""

from genmed.records.config.document import write_document
from genmed.records.config.sections import Config, affects_bits, flatten, list_keys
from genmed.records.config.sources import (
    Layer,
    ResolvedConfig,
    layer_of_defaults,
    layer_of_environment,
    layer_of_file,
    layer_of_flags,
    read_grid,
    resolve,
    suggest,
)

__all__ = [
    "Config",
    "Layer",
    "ResolvedConfig",
    "affects_bits",
    "flatten",
    "layer_of_defaults",
    "layer_of_environment",
    "layer_of_file",
    "layer_of_flags",
    "list_keys",
    "read_grid",
    "resolve",
    "suggest",
    "write_document",
]
