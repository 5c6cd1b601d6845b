"""genmed: reproducible training for medical imaging.

The verbs of the command line as functions (`genmed.train(config)`, `genmed.verify(run)`), loaded when first used, so
that `import genmed` costs nothing. `genmed.seed` serves anybody's own PyTorch code.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmed.records.config import Config
    from genmed.workflows.verbs import resume, train, verify

__all__ = ["Config", "__version__", "resume", "train", "verify"]
__version__ = "0.1.0"

_HOMES = {
    "Config": "genmed.records.config",
    "resume": "genmed.workflows.verbs",
    "train": "genmed.workflows.verbs",
    "verify": "genmed.workflows.verbs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genmed' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
