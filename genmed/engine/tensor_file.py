"""A safetensors file made in memory, and written and digested as one block while other threads go on.

The bytes are those that the library's `save_file` writes (the tests compare them). That one looks at each tensor in
Python, its pages go through the kernel's cache, and the file has to be read again for its digest: twice as much of the
time of the training beside it. Format: https://huggingface.co/docs/safetensors, "Format". Reading is the library's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmed.ground.errors import RunError
from genmed.ground.threads import run_aside

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
ALIGNMENT, PAGE = 8, 4096
AT_ONCE = 16 << 20
UNCACHED = getattr(os, "O_DIRECT", 0)
"""Linux: from this memory to the disk, without a copy in the kernel's, which nobody reads."""
REFUSALS = {errno.EINVAL, errno.EFAULT}
"""Of such a way."""
Layout = tuple[tuple[str, str, tuple[int, ...], int], ...]
"""Of each tensor its name, kind, shape and bytes, in the file's order."""


class TensorFile:
    """The file's image. Its memory is kept from one content to the next: the first touch costs more than the copy."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._image: Any = None
        self._views: dict[str, torch.Tensor] = {}
        self._size = 0

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copies the tensors; a copy from an accelerator is queued there. Raises RunError where one cannot be held."""
        layout = _lay_out(tensors)
        if layout != self._layout:
            self._make_room(layout, pinned=any(tensor.is_cuda for tensor in tensors.values()))
        for name, view in self._views.items():
            view.copy_(tensors[name].detach(), non_blocking=tensors[name].is_cuda)

    def _make_room(self, layout: Layout, *, pinned: bool) -> None:
        import torch

        header = _make_header(layout)
        size = len(header) + sum(length for *_, length in layout)
        room = torch.empty(-(-size // PAGE) * PAGE + PAGE, dtype=torch.uint8, pin_memory=pinned)
        image = room[-room.data_ptr() % PAGE :][: -(-size // PAGE) * PAGE]
        image[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        image[size:] = 0
        self._views, start = {}, len(header)
        for name, kind, shape, length in layout:
            if length:
                self._views[name] = image[start : start + length].view(getattr(torch, kind)).view(shape)
            start += length
        self._layout, self._image, self._size = layout, image, size

    def write(self, path: Path) -> str:
        """Puts the file on the disk and returns its SHA-256, as `digest_file` would give it."""
        image = memoryview(self._image.numpy())
        digest = run_aside(lambda: hashlib.sha256(image[: self._size]).hexdigest())
        self._put(image, path)
        return f"sha256:{digest.result()}"

    def _put(self, image: memoryview, path: Path) -> None:
        number, uncached = _open(path, uncached=bool(UNCACHED) and self._size >= AT_ONCE)
        try:
            done = 0
            while done < self._size:
                end = min(done + AT_ONCE, len(image) if uncached else self._size)  # whole pages alone pass the cache by
                try:
                    written = os.write(number, image[done:end])
                except OSError as error:
                    if not uncached or error.errno not in REFUSALS:
                        raise
                    written = 0
                if uncached and (written % PAGE or not written):
                    uncached = _use_cache(number)
                done += written
            os.ftruncate(number, self._size)
            os.fsync(number)
        finally:
            os.close(number)


def _lay_out(tensors: Mapping[str, torch.Tensor]) -> Layout:
    rows = [(name, _find_kind(name, tensor), tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()]
    return tuple(sorted(rows, key=lambda row: (-ORDER[KINDS[row[1]]], row[0].encode())))


def _find_kind(name: str, tensor: torch.Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in KINDS:
        raise RunError(f"no checkpoint can hold {name}: it is {tensor.dtype}", f"known are {', '.join(KINDS)}")
    return kind


def _make_header(layout: Layout) -> bytes:
    entries, start = {}, 0
    for name, kind, shape, length in layout:
        entries[name] = {"dtype": KINDS[kind], "shape": shape, "data_offsets": (start, start + length)}
        start += length
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _open(path: Path, *, uncached: bool) -> tuple[int, bool]:
    """For writing; whether the kernel's cache is passed by, which not every file system knows."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | (UNCACHED if uncached else 0), 0o666), uncached
    except OSError as error:
        if not uncached or error.errno not in REFUSALS:
            raise
        return os.open(path, flags, 0o666), False


def _use_cache(number: int) -> bool:
    import fcntl

    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) & ~UNCACHED)
    return False
