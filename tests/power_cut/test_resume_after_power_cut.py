"""After a power cut at any moment a run resumes to the same bits, or nothing had existed.

All states: `uv run python benchmarks/power_cut.py`.
"""

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.harness import Genmed
from tests.power_cut.recording import why_not
from tests.power_cut.states import KINDS, State
from tests.power_cut.training import record_training, try_state
from tests.resuming.runs import Arguments

OF_EACH_KIND = 5


def test_resume_after_a_power_cut_gives_the_same_bits_or_nothing_had_existed(
    genmed: Genmed, tiny: Arguments, trained: Genmed, tmp_path: Path
) -> None:
    """`trained` has warmed the image cache."""
    if reason := why_not():
        pytest.skip(reason)
    recorded = record_training(tiny("--epochs", 2, "--set", "checkpoints.every_steps=3"), genmed, tmp_path)
    by_kind: dict[str, list[State]] = defaultdict(list)
    for state in recorded.states():
        by_kind[state.kind].append(state)
    assert set(by_kind) == set(KINDS)
    draw = random.Random(0)
    chosen = [state for kind in KINDS for state in draw.sample(by_kind[kind], OF_EACH_KIND)]
    outcomes = {state.description: try_state(state, recorded, genmed) for state in chosen}
    wrong = {what: outcome for what, outcome in outcomes.items() if outcome not in ("same bits", "nothing existed")}
    assert wrong == {}
    assert Counter(outcomes.values())["same bits"] > len(chosen) / 2
