"""Spoiled files of every kind: refused by name or read right. benchmarks/reader_storm.py has more."""

import random
from collections import Counter

import pytest

from tests.datasets.mutating import READ, REFUSED, Case, make_cases, mutate

EACH = 24


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return make_cases(tmp_path_factory.mktemp("storm"))


def test_whole_files_are_read(cases: dict[str, Case]) -> None:
    assert {kind: case(bytes) for kind, case in cases.items()} == dict.fromkeys(cases, READ)
    assert len(cases) * EACH > 500


def test_spoiled_files_are_refused_by_name_or_read_right(
    cases: dict[str, Case], capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(11)
    wrong, outcomes = [], Counter[str]()
    for kind, case in cases.items():
        for number in range(EACH):
            outcome = case(lambda content: mutate(content, draw))
            outcomes[outcome] += 1
            if outcome not in (READ, REFUSED):
                wrong.append(f"{kind} {number}: {outcome}")
    assert wrong == []
    assert outcomes[REFUSED] > 200
    assert outcomes[READ] > 50
    assert capfd.readouterr() == ("", "")
