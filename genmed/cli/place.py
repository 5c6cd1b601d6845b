"""Where the runs are."""

import os
from pathlib import Path


def root_folder(root: Path | None) -> Path:
    """--root over GENMED_ROOT over the current folder."""
    return root or Path(os.environ.get("GENMED_ROOT") or ".")
