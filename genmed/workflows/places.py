"""Where a command may write: a new file in a folder that is there."""

from pathlib import Path

from genmed.ground.errors import RequestError, StorageError


def check_place(out: Path, flag: str, suffix: str) -> None:
    """Raises RequestError for a name without the suffix; StorageError where the file exists or its folder does not."""
    if out.suffix.lower() != suffix:
        raise RequestError(f"{flag} must end in {suffix}, got {out}")
    if out.exists() or out.is_symlink():
        raise StorageError(f"{out} exists, and nothing is overwritten", f"choose another {flag}, or remove it")
    if not out.absolute().parent.is_dir():
        raise StorageError(f"there is no folder {out.absolute().parent}", f"make it, or choose another {flag}")
