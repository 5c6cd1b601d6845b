"""JSON that carries its own digest, so that a flipped bit, a cut or an edit is found and named when it is read.

The digest is of the bytes before it, not of what they mean: no change goes unseen.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmed.ground.errors import RecordError
from genmed.ground.files import write_text
from genmed.ground.fingerprints import digest_bytes

DOCUMENT = ',\n  "seal": "{}"\n}}\n'
MEND = "restore it from a copy of the run"
LINE = ',"seal":"{}"}}\n'


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Writes an indented document, whole or not at all, sealed by its last key."""
    write_text(path, seal_document(document))


def seal_document(document: Mapping[str, Any]) -> str:
    """The text that `write_sealed` writes."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return _seal(text.removesuffix("\n}"), DOCUMENT)


def read_sealed(path: Path) -> dict[str, Any]:
    """The document without its seal. Raises RecordError, naming the file, where it is missing, cut or changed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} is missing", MEND) from None
    except OSError as error:  # the disk itself may fail
        raise RecordError(f"{path} cannot be read: {error.strerror}", MEND) from error
    return _open(content, DOCUMENT, str(path))


def seal_line(document: Mapping[str, Any]) -> str:
    """The document on one line, for a file that grows line by line."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _seal(text.removesuffix("}"), LINE)


def open_line(line: bytes, where: str) -> dict[str, Any]:
    """The document of a line with its line break. Raises RecordError, naming `where`."""
    return _open(line, LINE, where)


def _seal(body: str, ending: str) -> str:
    return body + ending.format(digest_bytes(body.encode()))


def _open(content: bytes, ending: str, where: str) -> dict[str, Any]:
    body = content[: -len(ending.format(digest_bytes(b"")))]
    if content != body + ending.format(digest_bytes(body)).encode():
        raise RecordError(f"{where} is damaged: it fails its seal", MEND)
    document: dict[str, Any] = json.loads(body + b"}")
    return document
