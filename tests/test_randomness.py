"""Randomness without state: constants that hold on every machine, and draws that depend on nothing but their key."""

import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmed.engine.normalise import Scaling
from genmed.engine.task import Task
from genmed.ground.errors import DataError
from genmed.ground.randomness import (
    derive_seed,
    derive_words,
    draw_fraction,
    draw_order,
    draw_uniform,
    draw_words,
    step_seed,
)
from genmed.parts.data.augmentation import DRAWS, Strength, draw_epoch
from genmed.parts.data.cache import ImageBytes
from genmed.parts.data.loader import plan_epoch, plan_evaluation
from genmed.parts.data.records import Records
from genmed.parts.data.split import assign_patient, check_split, split_records
from genmed.records.config import Config
from genmed.records.config.sections import Data

KEY = (42, "order", 1)
SEEDS = st.integers(0, 2**32 - 1)

same_everywhere = settings(derandomize=True, deadline=None, max_examples=100)


# golden constants


def test_words_of_a_key_are_one_constant_everywhere() -> None:
    assert derive_words(KEY, 4) == [
        *(16407754705000559025, 2133515367541380776, 6224263316047935027, 12241816691724795204),
    ]
    assert draw_words(KEY, 6).tolist() == [
        *(0xEE1777E575C22DB4, 0xCEF5992DFCAF8532, 0xEF995DE8076BB9FC, 0xB3039E6E22197692),
        *(0x2EA3D39FA178AA35, 0x2EBFCD759619973C),
    ]
    assert sum(draw_words(KEY, 100_000).tolist()) % 2**64 == 224968332687424419


@same_everywhere
@given(SEEDS, st.integers(1, 10_000), st.integers(0, 50))
def test_words_are_those_of_philox_as_its_paper_gives_it(seed: int, epoch: int, count: int) -> None:
    key = (seed, "order", epoch)
    assert draw_words(key, count).tolist() == compute_philox(derive_words(key, 2), count)


def test_order_of_a_key_is_one_constant_everywhere() -> None:
    order = draw_order(KEY, 20)
    assert order.tolist() == [17, 18, 11, 4, 5, 15, 13, 9, 19, 6, 8, 3, 1, 16, 12, 14, 10, 0, 2, 7]
    assert order.dtype == np.int64


def test_uniform_numbers_of_a_key_are_one_constant_everywhere() -> None:
    drawn = draw_uniform((42, "augment", 1), (2, 3))
    assert [[value.hex() for value in row] for row in drawn.tolist()] == [
        ["0x1.3225052331090p-1", "0x1.a0564570a65e0p-6", "0x1.991e4f1a2e2f4p-2"],
        ["0x1.c381a8d9d59a2p-2", "0x1.c558f7fea07eep-2", "0x1.015856318b663p-1"],
    ]
    assert draw_fraction((0, "split", "1")) == 0.41843273606656695


def test_step_seeds_are_one_constant_everywhere() -> None:
    counters = (0, 1, 2, 3, 2**32 - 1)
    assert [step_seed(42, counter) for counter in counters] == [
        *(65731149, 565906553, 4074393948, 3563934574, 2941259967),
    ]
    assert [step_seed(43, counter) for counter in counters[:3]] == [1279837711, 844376394, 1566722754]
    assert (step_seed(0, 0), step_seed(2**32 - 1, 2**32 - 1)) == (321562729, 2855642871)


def test_derived_seeds_are_one_constant_everywhere() -> None:
    assert [derive_seed(*key) for key in ((42, "init"), (43, "init"), (0,))] == [1252582118, 1587262059, 2583942801]


def test_order_of_an_epoch_is_one_constant_everywhere() -> None:
    train = np.arange(100, 119)
    assert list_rows(plan_epoch(42, 1, train, 8, 1)) == [
        [117, 118, 111, 104, 105, 115, 113, 109],
        [106, 108, 103, 101, 116, 112, 114, 110],
        [100, 102, 107],
    ]
    assert list_rows(plan_epoch(42, 2, train, 8, 1)) == [
        [103, 112, 110, 116, 114, 105, 118, 100],
        [101, 104, 115, 109, 102, 106, 108, 117],
        [107, 113, 111],
    ]


def test_augmentation_of_an_epoch_is_one_constant_everywhere() -> None:
    draws = draw_epoch(42, 1, 3)
    assert draws.shape == (3, DRAWS)
    assert draws[:, :7].tolist() == [
        [
            *(0.5979386907061031, 0.02541119366887823, 0.3995296821336034, 0.4409242995219761),
            *(0.44272220126742823, 0.5026270804862175, 0.8522108462824107),
        ],
        [
            *(0.11930717806143509, 0.3202726654132261, 0.9548304387101662, 0.6845696971920372),
            *(0.5251108155025116, 0.3872236183302761, 0.9206212628822285),
        ],
        [
            *(0.5426584597722965, 0.6337483781248574, 0.03332739019885966, 0.33433108351546525),
            *(0.6413766082824306, 0.5366834848650803, 0.563114529544204),
        ],
    ]


def test_sides_of_patients_are_one_constant_everywhere() -> None:
    sides = [assign_patient(str(patient), Data()) for patient in range(1, 31)]
    assert {patient for patient, side in enumerate(sides, 1) if side == "val"} == {3, 9, 13, 18, 20, 23, 26}
    assert {patient for patient, side in enumerate(sides, 1) if side == "test"} == {7, 17, 27, 29}
    other = [assign_patient(str(patient), Data(split_seed=1)) for patient in range(1, 11)]
    assert other == "train train train train test val test train val train".split()
    official = [assign_patient(str(patient), Data(), official_test=True) for patient in range(1, 31)]
    assert {patient for patient, side in enumerate(official, 1) if side == "val"} == {7, 17, 27, 29}


# keys


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((42, "order", 1), (42, "order", 2)),
        ((42, "order", 1), (43, "order", 1)),
        ((42, "order", 1), (42, "augment", 1)),
        ((1, "split", "12"), (1, "split", 12)),
        ((1, "split", "1", "2"), (1, "split", "12")),
        ((4, 2), (42,)),
    ],
)
def test_keys_that_differ_in_anything_draw_differently(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert derive_words(one, 4) != derive_words(other, 4)
    assert not set(draw_words(one, 100).tolist()) & set(draw_words(other, 100).tolist())


def test_first_numbers_of_a_longer_draw_are_those_of_a_shorter() -> None:
    assert draw_words(KEY, 100)[:10].tolist() == draw_words(KEY, 10).tolist()
    assert draw_epoch(42, 3, 100)[:10].tolist() == draw_epoch(42, 3, 10).tolist()


def test_uniform_numbers_lie_in_the_unit_interval_and_fill_it() -> None:
    drawn = draw_uniform(KEY, (100_000,))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert abs(counts - 10_000).max() < 500  # five standard deviations


@same_everywhere
@given(SEEDS, st.integers(0, 300))
def test_order_is_a_permutation(seed: int, count: int) -> None:
    assert sorted(draw_order((seed, "order", 1), count).tolist()) == list(range(count))


# seeds of steps


@same_everywhere
@given(SEEDS, st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=50, unique=True))
def test_step_seeds_of_distinct_counters_are_distinct(seed: int, counters: list[int]) -> None:
    seeds = {step_seed(seed, counter) for counter in counters}
    assert len(seeds) == len(counters)
    assert all(0 <= value < 2**32 for value in seeds)


@same_everywhere
@given(SEEDS, st.integers(0, 2**32 - 1))
def test_step_seed_can_be_undone_so_no_two_counters_share_one(seed: int, counter: int) -> None:
    before, after = derive_words((seed, "step"), 2)
    x = step_seed(seed, counter) ^ (after & 0xFFFFFFFF)
    x ^= x >> 16
    x = x * pow(0xC2B2AE35, -1, 2**32) % 2**32
    x ^= x >> 13 ^ x >> 26
    x = x * pow(0x85EBCA6B, -1, 2**32) % 2**32
    x ^= x >> 16
    assert x ^ (before & 0xFFFFFFFF) == counter


@pytest.mark.parametrize("start", [0, 2**32 - 200_000])
def test_step_seeds_of_200_000_consecutive_steps_do_not_collide(start: int) -> None:
    assert len({step_seed(42, counter) for counter in range(start, start + 200_000)}) == 200_000


def test_step_seeds_of_another_training_seed_come_in_another_sequence() -> None:
    one, other = ([step_seed(seed, counter) for counter in range(1000)] for seed in (42, 43))
    assert len(set(one) & set(other)) < 2  # 1000 of 2**32 each: hardly one in common by chance


# plans


@same_everywhere
@given(SEEDS, st.integers(1, 300), st.sampled_from([1, 2, 4]), st.integers(2, 12))
def test_plan_shows_a_row_at_most_once_and_gives_each_shard_equally_many(
    seed: int, count: int, shards: int, images: int
) -> None:
    train, size = np.arange(count) * 3 + 5, images * shards
    plan = plan_epoch(seed, 1, train, size, shards)
    rows = [row for batch in list_rows(plan) for row in batch]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(train.tolist())
    full, rest = divmod(count, size)
    short = rest // shards * shards if rest >= 2 * shards else 0
    assert [len(batch) for batch in plan] == [size] * full + [short] * bool(short)
    assert len(plan) == make_task(count, size, shards).steps_per_epoch


@pytest.mark.parametrize(
    ("count", "shards", "sizes"),
    [
        (32, 1, [16, 16]),
        (33, 1, [16, 16]),
        (34, 1, [16, 16, 2]),
        (43, 1, [16, 16, 11]),
        (35, 2, [16, 16]),
        (36, 2, [16, 16, 4]),
        (43, 2, [16, 16, 10]),
        (39, 4, [16, 16]),
        (40, 4, [16, 16, 8]),
        (43, 4, [16, 16, 8]),
        (9, 1, [9]),
        (7, 4, []),
        (1, 1, []),
    ],
)
def test_short_last_batch_gives_each_shard_two_images_or_is_left_out(count: int, shards: int, sizes: list[int]) -> None:
    plan = plan_epoch(42, 1, np.arange(count), 16, shards)
    assert [len(batch) for batch in plan] == sizes
    assert make_task(count, 16, shards).steps_per_epoch == len(sizes)


def test_number_of_shards_moves_no_row_of_a_full_batch() -> None:
    plans = [list_rows(plan_epoch(42, 1, np.arange(43), 16, shards)) for shards in (1, 2, 4)]
    assert plans[0][:2] == plans[1][:2] == plans[2][:2]
    assert plans[0][2][:10] == plans[1][2]
    assert plans[0][2][:8] == plans[2][2]


def test_every_image_is_shown_in_some_epoch_though_each_epoch_leaves_some_out() -> None:
    shown: set[int] = set()
    for epoch in range(1, 20):
        plan = list_rows(plan_epoch(42, epoch, np.arange(19), 8, 4))
        assert sum(map(len, plan)) == 16
        shown |= {row for batch in plan for row in batch}
    assert shown == set(range(19))


def test_order_differs_by_epoch_and_by_seed() -> None:
    plans = [
        list_rows(plan_epoch(seed, epoch, np.arange(60), 60, 1)) for seed, epoch in ((42, 1), (42, 2), (43, 1), (43, 2))
    ]
    assert all(plans[i] != plans[j] for i in range(4) for j in range(i))


def test_evaluation_reads_all_rows_in_their_own_order() -> None:
    assert list_rows(plan_evaluation(np.arange(5, 12), 3)) == [[5, 6, 7], [8, 9, 10], [11]]


# splits


def test_adding_patients_moves_nobody() -> None:
    few, many = make_records(range(1, 101, 3)), make_records(range(1, 101))
    sides = [dict(zip(records.patients, split_records(records, Data()).sides, strict=True)) for records in (few, many)]
    assert len(sides[0]) < len(sides[1])
    assert sides[0] == {patient: sides[1][patient] for patient in sides[0]}


def test_changing_the_ratios_moves_patients_only_to_the_side_that_grows() -> None:
    names = [str(patient) for patient in range(500)]
    before = {name: assign_patient(name, Data(test_ratio=0.2, val_ratio=0.2)) for name in names}
    after = {name: assign_patient(name, Data(test_ratio=0.2, val_ratio=0.3)) for name in names}
    moved = {(before[name], after[name]) for name in names if before[name] != after[name]}
    assert moved == {("train", "val")}


def test_shares_of_the_sides_are_those_asked_for() -> None:
    sides = [assign_patient(str(patient), Data(test_ratio=0.1, val_ratio=0.3)) for patient in range(20_000)]
    assert abs(sides.count("test") - 2000) < 250
    assert abs(sides.count("val") - 6000) < 350


def test_all_images_of_a_patient_are_on_one_side() -> None:
    records = make_records(range(1, 61), images=3)
    split = split_records(records, Data())
    assert len({*zip(records.patients, split.sides, strict=True)}) == 60
    assert set(split.sides) == {"train", "val", "test"}


def test_official_test_list_is_kept_and_only_the_others_are_split() -> None:
    records = make_records(range(1, 61))
    listed = tuple("test" if int(patient) % 4 == 0 else "train_val" for patient in records.patients)
    split = split_records(replace(records, official=listed), Data())
    assert split.official
    assert [side == "test" for side in split.sides] == [entry == "test" for entry in listed]
    assert {"train", "val"} <= set(split.sides)


def test_patient_on_two_sides_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="patient 7 is on two sides of the split: train and test"):
        check_split(["7", "8", "7"], ["train", "val", "test"])


# independence of everything else


def test_draws_do_not_depend_on_the_global_generators_nor_touch_them(server: ForkServerContext) -> None:
    with ProcessPoolExecutor(1, mp_context=server) as processes:
        quiet, disturbed, untouched = processes.submit(draw_beside_global_generators).result()
    assert quiet == disturbed
    assert untouched


def draw_beside_global_generators() -> tuple[list[Any], list[Any], bool]:
    """In a process of its own: all draws, all draws with draws from the global generators between, and whether those
    are where they were after ours.
    """
    import torch

    def disturb() -> None:
        random.seed(random.getrandbits(20))
        np.random.seed(int(np.random.randint(1000)))
        torch.manual_seed(int(torch.randint(1000, ())))
        random.random(), np.random.random(3), torch.rand(5)

    def states() -> list[Any]:
        return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]

    before = states()
    quiet = draw_all(lambda: None)
    untouched = states() == before
    return quiet, draw_all(disturb), untouched


def draw_all(between: Callable[[], None]) -> list[Any]:
    """One of each kind of draw, with a call before each."""
    draws: list[Callable[[], Any]] = [
        lambda: draw_words(KEY, 10).tolist(),
        lambda: draw_order(KEY, 10).tolist(),
        lambda: draw_uniform(KEY, (2, 5)).tolist(),
        lambda: draw_fraction(KEY),
        lambda: step_seed(42, 7),
        lambda: derive_seed(42, "init"),
        lambda: list_rows(plan_epoch(42, 3, np.arange(50), 8, 2)),
        lambda: draw_epoch(42, 3, 20).tolist(),
        lambda: [assign_patient(str(patient), Data()) for patient in range(20)],
    ]
    found = []
    for draw in draws:
        between()
        found.append(draw())
    return found


# what the tests are made of


def list_rows(plan: list[Any]) -> list[list[int]]:
    return [batch.tolist() for batch in plan]


def compute_philox(key: list[int], count: int) -> list[int]:
    """Philox4x64-10 by Salmon et al. 2011, in plain integers; the counter begins at 1, as NumPy's does."""
    mask, words = 2**64 - 1, []
    for counter in range(1, count // 4 + 2):
        a, b, c, d = counter, 0, 0, 0
        left, right = key
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
            a, b, c, d = (second >> 64) ^ b ^ left, second & mask, (first >> 64) ^ d ^ right, first & mask
            left, right = (left + 0x9E3779B97F4A7C15) & mask, (right + 0xBB67AE8584CAA73B) & mask
        words += [a, b, c, d]
    return words[:count]


def make_records(patients: range, images: int = 1) -> Records:
    rows = [(f"{patient:04d}_{image}", str(patient)) for patient in patients for image in range(images)]
    names = tuple(name for name, _ in rows)
    labels = np.zeros((len(rows), 1), dtype=np.int8)
    return Records(names, ("one",), labels, NoImages(), patients=tuple(patient for _, patient in rows))


class NoImages:
    """The source of images that nobody reads."""

    def stamp(self, row: int) -> None:
        return None

    def digest(self, row: int) -> str:
        raise NotImplementedError

    def read(self, row: int) -> Any:
        raise NotImplementedError

    def decoders(self) -> tuple[str, ...]:
        return ()


def make_task(count: int, batch_size: int, shards: int) -> Task:
    """A task of which only the numbers of steps are asked."""
    return Task(
        config=Config().replace(**{"training.batch_size": batch_size, "compute.shards": shards}),
        device="cpu",
        classes=("one",),
        ids=(),
        kind="multi-label",
        labels=np.zeros((0, 1), dtype=np.int8),
        targets=np.zeros((0, 1), dtype=np.int8),
        studies=(),
        images=ImageBytes.__new__(ImageBytes),
        rows={"train": np.arange(count)},
        scaling=Scaling(0.5, 0.5),
        strength=Strength(),
        weights=None,
    )
