"""Where a command may write: a new file or folder in a folder that is there."""

from pathlib import Path

from genmed.ground.errors import RequestError, StorageError


def check_place(out: Path, flag: str, *suffixes: str) -> None:
    """suffixes: of which the name must have one; none: any name will do.

    Raises RequestError for a name without; StorageError where something is there, or the folder around it is not.
    """
    if suffixes and out.suffix.lower() not in suffixes:
        raise RequestError(f"{flag} must end in {suffixes[0]}, got {out}")
    if out.exists() or out.is_symlink():
        raise StorageError(f"{out} exists, and nothing is overwritten", f"choose another {flag}, or remove it")
    if not out.absolute().parent.is_dir():
        raise StorageError(f"there is no folder {out.absolute().parent}", f"make it, or choose another {flag}")
