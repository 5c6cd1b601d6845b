"""Fingerprints: digests that begin with their algorithm's name.

Of a tensor: name, dtype, shape, storage order and raw elements. On the CPU xxh3-128, 30 GB/s a core; where the tensor
lives on an accelerator, a sum mod 2**64 of its bits weighted by two odd mixing functions of position, computed there,
so that only 16 bytes travel. Integer sums do not depend on the order of summation. (`torch.hash_tensor` is a plain xor
of doubles: it does not see swaps or two equal changes.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import torch

TENSOR_ALGORITHM = "xxh3-128"
DEVICE_ALGORITHM = "mix64x2"
CHUNK = 1 << 24


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
    return f"{TENSOR_ALGORITHM}:" + xxhash.xxh3_128_hexdigest("\0".join(names).encode())


def digest_pixels(image: Any) -> str:
    """Of one image: a C-contiguous uint8 or uint16 array, with its shape, and its dtype where that is not uint8."""
    kind = "" if image.dtype == "uint8" else str(image.dtype)
    state = xxhash.xxh3_128(f"{image.shape!r}{kind}".encode())
    state.update(image)
    return f"{TENSOR_ALGORITHM}:{state.hexdigest()}"


def fingerprint_tensors(tensors: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """One fingerprint of named tensors, in the order given.

    Elements are read as raw bits in stored order, so -0.0 differs from 0.0 and no NaN is lost; a channels-last tensor
    is told from a contiguous one. Tensors of a group may live on different devices.
    """
    items = tensors.items() if isinstance(tensors, Mapping) else tensors
    state = xxhash.xxh3_128()
    on_device: list[torch.Tensor] = []
    for name, given in items:
        tensor, order = _in_stored_order(given.detach())
        state.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0{order}\0".encode())
        if tensor.device.type == "cpu":
            state.update(_raw(tensor))
        else:
            on_device.append(mix_on_device(tensor))
    if on_device:
        import torch

        state.update(_raw(torch.stack(on_device).cpu()))  # the one transfer
        return f"{DEVICE_ALGORITHM}+{TENSOR_ALGORITHM}:{state.hexdigest()}"
    return f"{TENSOR_ALGORITHM}:{state.hexdigest()}"


def _in_stored_order(tensor: torch.Tensor) -> tuple[torch.Tensor, str]:
    """A view of the tensor whose C order is the order in memory, and that order's name ('' if already so).

    Dimensions of size 1 may have any stride; they are put last, so that equal memory has one name.
    """
    if tensor.is_contiguous():
        return tensor, ""
    order = sorted(range(tensor.dim()), key=lambda d: (tensor.shape[d] == 1, -tensor.stride()[d], d))
    view = tensor.permute(order)
    if not view.is_contiguous():  # holes or overlaps: no stored order of its own
        return tensor.contiguous(), ""
    return view, ",".join(map(str, order))


def _raw(tensor: torch.Tensor) -> Any:
    import torch

    if not tensor.numel():
        return b""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()  # a single element may have any stride


def mix_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """(2,) int64: the tensor's bits summed mod 2**64 under two weightings by position.

    Weights are odd (no bit of an element is lost) and mixed by splitmix64's finaliser (Steele et al. 2014), so swaps,
    shifts and equal changes in two places do not cancel.
    """
    import torch

    flat = tensor.reshape(-1).contiguous()
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    # As halves, for two changes of bit 63 would cancel: odd weights times 2**63 are all the same.
    flat = flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}[flat.element_size()])
    sums = torch.zeros(2, dtype=torch.int64, device=flat.device)
    for start in range(0, flat.numel(), CHUNK):  # bounds the memory that the weights take
        part = flat[start : start + CHUNK].to(torch.int64)
        position = torch.arange(start + 1, start + 1 + part.numel(), dtype=torch.int64, device=flat.device)
        for key, gamma in enumerate((-7046029254386353131, -4417276706812531889)):
            sums[key] += (part * (_splitmix(position * gamma) | 1)).sum()
    return sums


def _splitmix(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser on int64, which wraps; `>>` is arithmetic, so the sign bits are masked off."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
