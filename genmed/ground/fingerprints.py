"""Fingerprints: digests that begin with their algorithm's name. Those of tensors are in tensor_fingerprints.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

FAST_ALGORITHM = "xxh3-128"


def digest_bytes(content: bytes | memoryview) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of the value's canonical JSON: sorted keys, no spaces; floats as the shortest exact repr."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def digest_names(names: Iterable[str]) -> str:
    """Of a sequence of names, in order."""
    return f"{FAST_ALGORITHM}:" + xxhash.xxh3_128_hexdigest("\0".join(names).encode())


def digest_pixels(image: Any, bits: int | None = None) -> str:
    """Of one image: a C-contiguous uint8 or uint16 array, with its shape, and its dtype where that is not uint8.

    bits: how many bits of a value are used, where a file's header says so.
    """
    kind = ("" if image.dtype == "uint8" else str(image.dtype)) + (f" of {bits} bits" if bits else "")
    state = xxhash.xxh3_128(f"{image.shape!r}{kind}".encode())
    state.update(image)
    return f"{FAST_ALGORITHM}:{state.hexdigest()}"
