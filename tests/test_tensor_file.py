"""The file is the library's own, byte for byte."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genmed.engine import tensor_file
from genmed.engine.tensor_file import KINDS, PAGE, TensorFile
from genmed.ground.errors import RunError
from genmed.ground.fingerprints import digest_file


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.randn(3, 5, 2, 2), "bias": torch.tensor([-0.0, float("nan"), 1e-45])},
        {'é"/\n': torch.zeros(0, 3), "step": torch.tensor(7.0), "z": torch.ones(9, dtype=torch.bool)},
        {kind: torch.arange(3).to(getattr(torch, kind)) for kind in KINDS},
        {f"{name}.{kind}": torch.ones(n).to(getattr(torch, kind)) for n, name in enumerate("cab", 1) for kind in KINDS},
    ],
    ids=["none", "channels", "odd names", "kinds", "many"],
)
def test_file_and_digest_are_those_of_the_library(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "library")
    file = TensorFile()
    file.hold(tensors)
    digest = file.write(tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    assert digest == digest_file(tmp_path / "library")
    assert load_file(tmp_path / "ours").keys() == tensors.keys()


def test_copy_is_contiguous_and_outlives_what_becomes_of_the_tensors(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    before = weight.clone()
    file = TensorFile()
    file.hold({"weight": weight})
    weight.zero_()
    file.write(tmp_path / "file")
    assert torch.equal(load_file(tmp_path / "file")["weight"], before)


def test_memory_is_used_again_for_the_same_shapes_and_made_anew_for_others(tmp_path: Path) -> None:
    file = TensorFile()
    for tensors in ({"a": torch.ones(3)}, {"a": torch.zeros(3)}, {"a": torch.ones(2)}, {"b": torch.ones(2)}, {}):
        file.hold(tensors)
        file.write(tmp_path / "ours")
        save_file(tensors, tmp_path / "library")
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()


@pytest.mark.skipif(not tensor_file.UNCACHED, reason="this system has no O_DIRECT")
@pytest.mark.parametrize("at", ["open", "write", "never"])
def test_file_is_the_same_where_the_file_system_refuses_to_pass_its_cache_by(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "AT_ONCE", PAGE)  # large, and in pieces
    refused = []
    system_open, system_write = os.open, os.write

    def refuse(*_: object) -> None:
        refused.append(at)
        raise OSError(errno.EINVAL, "not aligned as it must be")

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        if at == "open" and flags & tensor_file.UNCACHED:
            refuse()
        return system_open(path, flags, mode)

    def write(number: int, content: memoryview) -> int:
        if at == "write" and fcntl.fcntl(number, fcntl.F_GETFL) & tensor_file.UNCACHED:
            refuse()
        return system_write(number, content)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "write", write)
    tensors = {"a": torch.randn(5000), "b": torch.randn(7)}
    file = TensorFile()
    file.hold(tensors)
    file.write(tmp_path / "ours")
    monkeypatch.undo()
    save_file(tensors, tmp_path / "library")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    assert refused == ([] if at == "never" else [at])


def test_tensor_that_the_format_does_not_know_is_named() -> None:
    with pytest.raises(RunError, match=r"no checkpoint can hold phase: it is torch\.complex128"):
        TensorFile().hold({"phase": torch.zeros(2, dtype=torch.complex128)})
