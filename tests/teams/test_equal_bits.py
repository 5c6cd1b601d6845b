"""One config, whoever computes its shards: the same trace, the same state, the same metrics."""

import pytest

from tests.harness import Genmed
from tests.resuming.runs import Arguments
from tests.teams.starting import describe, run_team

MODEL = """
from torch import nn


def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16, momentum=None), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
"""
WAYS = {
    "adamw": (),
    "sgd, momentum, clipped": ("--optimizer", "sgd", "--lr", 0.05, "--set", "optimizer.clip_norm=0.1"),
    "augmented": ("--augmentation", "standard"),
    "bf16": ("--precision", "bf16"),
    "contiguous, workers": ("--set", "compute.memory_format=contiguous", "--num-workers", 1),
    "sent, not read": ("--set", "compute.share_memory=false"),
    "stopped early": ("--patience", 1, "--set", "training.monitor=loss", "--set", "training.also_last=true"),
}


@pytest.mark.parametrize("more", WAYS.values(), ids=WAYS)
def test_run_is_the_same_on_1_2_and_4_processes(more: tuple[object, ...], genmed: Genmed, tiny: Arguments) -> None:
    (genmed.root / "model.py").write_text(MODEL)
    command = [*tiny("--shards", 4, "--batch-size", 12, *more), "--model", f"{genmed.root / 'model.py'}:build"]
    alone, *together = (describe(run_team(genmed, size, *command)) for size in (1, 4, 2)[: 3 if not more else 2])
    assert alone["steps_done"] > 10
    for found in together:
        assert found == alone
