"""The file is the library's own, byte for byte."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genmed.engine.tensor_file import KINDS, write_tensors
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
    digest = write_tensors(tmp_path / "ours", tensors)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    assert digest == digest_file(tmp_path / "library")
    assert load_file(tmp_path / "ours").keys() == tensors.keys()


def test_tensor_that_the_format_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no checkpoint can hold phase: it is torch\.complex128"):
        write_tensors(tmp_path / "file", {"phase": torch.zeros(2, dtype=torch.complex128)})
