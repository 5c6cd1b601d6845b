"""Writing a safetensors file and its digest in one pass, while other threads go on.

The bytes are those that the library's `save_file` writes (the tests compare them), which takes half as long again of
the training's time beside it: it looks at each tensor in Python, and the file has to be read again for its digest.
Format: https://huggingface.co/docs/safetensors, "Format". Reading is the library's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmed.ground.errors import RunError

if TYPE_CHECKING:
    import torch

KINDS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
"""torch's names, and the format's. In the file the last kinds come first, so that all elements are aligned."""
ORDER = {kind: place for place, kind in enumerate(KINDS.values())}
ALIGNMENT = 8


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Puts contiguous tensors of the CPU on the disk and returns the file's SHA-256, as `digest_file` would give it.

    Raises RunError where the format does not know a tensor's kind of elements.
    """
    kinds = {name: _find_kind(name, tensor) for name, tensor in tensors.items()}
    ordered = sorted(tensors, key=lambda name: (-ORDER[kinds[name]], name.encode()))
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in (
            _make_header([(name, kinds[name], tensors[name]) for name in ordered]),
            *(_view_bytes(tensors[name]) for name in ordered),
        ):
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return f"sha256:{digest.hexdigest()}"


def _find_kind(name: str, tensor: torch.Tensor) -> str:
    kind = KINDS.get(str(tensor.dtype).removeprefix("torch."))
    if kind is None:
        raise RunError(f"no checkpoint can hold {name}: it is {tensor.dtype}", f"known are {', '.join(KINDS)}")
    return kind


def _make_header(rows: Sequence[tuple[str, str, torch.Tensor]]) -> bytes:
    """rows: name, kind and tensor, in the file's order."""
    entries, start = {}, 0
    for name, kind, tensor in rows:
        end = start + tensor.nbytes
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _view_bytes(tensor: torch.Tensor) -> Any:
    import torch

    assert tensor.is_contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
