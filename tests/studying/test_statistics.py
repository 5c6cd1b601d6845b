"""Models over seeds and patients against a bootstrap written out seed by seed and image by image."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from genmed.ground.randomness import draw_uniform
from genmed.parts.metrics.comparison import compare, correct_for_many, draw_seed_weights, summarise
from genmed.parts.metrics.flips import find_flips
from genmed.parts.metrics.intervals import RESAMPLES as RESAMPLES_OF_A_STUDY
from genmed.parts.metrics.intervals import resample
from genmed.parts.metrics.sample import Sample

Values = npt.NDArray[Any]
SEED, RESAMPLES, PATIENTS = 0, 40, 60
CLASSES = ("a", "b")


def draw_scores(model: int, seed: int, truth: Values, units: Values) -> Values:
    """That know something of the truth; patients, models and seeds each have an effect of their own."""
    random = np.random.Generator(np.random.Philox(100 * model + seed))
    hard = np.random.Generator(np.random.Philox(7)).normal(size=units.max() + 1)[units][:, None]
    return (1 / (1 + np.exp(-(truth * (1 + 0.3 * model) + hard + random.normal(size=truth.shape))))).astype(np.float32)


@pytest.fixture(scope="module")
def models() -> list[list[Sample]]:
    """Two models of three seeds on 150 images of 60 patients."""
    random = np.random.Generator(np.random.Philox(1))
    units = np.concatenate([np.arange(PATIENTS), random.integers(0, PATIENTS, 90)])
    truth = (random.random((150, 2)) < 0.4).astype(np.int8)
    return [
        [Sample(draw_scores(model, seed, truth, units), truth, units, CLASSES, "multi-label", {}) for seed in range(3)]
        for model in range(2)
    ]


def measure_slowly(sample: Sample, rows: list[int]) -> float:
    values = [roc_auc_score(sample.truth[rows, column], sample.scores[rows, column]) for column in range(2)]
    return sum(values) / 2


def draw_slowly(samples: list[Sample], number: int) -> list[float]:
    """Each seed's value in the resample of patients of that number."""
    drawn = [int(u * PATIENTS) for u in draw_uniform((SEED, "bootstrap", number), (PATIENTS,))]
    rows = [row for patient in drawn for row in np.flatnonzero(samples[0].units == patient)]
    return [measure_slowly(sample, rows) for sample in samples]


def mean_over_drawn_seeds(values: list[float], of_patients: list[float], number: int) -> float:
    """The drawn patients' mean, and the distance of the drawn seeds from all, stretched. values: on all patients."""
    count = len(values)
    drawn = draw_uniform((SEED, "bootstrap of seeds", count), (RESAMPLES, count))[number]
    among = sum(values[int(u * count)] for u in drawn) / count
    spread = draw_uniform((SEED, "bootstrap of the spread over seeds", count), (RESAMPLES, 1))[number, 0]
    stretch = math.sqrt(count / (count - 1)) * math.sqrt((count - 1) / stats.chi2.isf(spread, count - 1))
    return sum(of_patients) / count + stretch * (among - sum(values) / count)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def measured(samples: list[Sample]) -> tuple[Values, Values]:
    rows = list(range(len(samples[0].truth)))
    drawn = np.stack([resample(sample, SEED, RESAMPLES)["auroc_macro"] for sample in samples])
    return np.array([measure_slowly(sample, rows) for sample in samples]), drawn


def test_mean_over_seeds_and_its_interval_are_those_written_out(models: list[list[Sample]]) -> None:
    values, drawn = measured(models[0])
    found = summarise(values, drawn, draw_seed_weights(SEED, RESAMPLES, 3))
    slow = [mean_over_drawn_seeds(list(values), draw_slowly(models[0], number), number) for number in range(RESAMPLES)]
    assert found.mean == pytest.approx(sum(values) / 3, abs=1e-12)
    assert found.sd == pytest.approx(math.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 2), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((percentile(slow, 0.025), percentile(slow, 0.975)), abs=1e-9)


def test_difference_of_two_models_is_paired_by_seed_and_by_patients(models: list[list[Sample]]) -> None:
    (one, drawn_one), (two, drawn_two) = map(measured, models)
    found = compare((one, two), (drawn_one, drawn_two), draw_seed_weights(SEED, RESAMPLES, 3))
    slow = []
    for number in range(RESAMPLES):
        pairs = zip(*(draw_slowly(model, number) for model in models), strict=True)
        slow.append(mean_over_drawn_seeds(list(one - two), [first - second for first, second in pairs], number))
    observed = sum(one - two) / 3
    further = sum(abs(value - observed) >= abs(observed) for value in slow)
    assert found.difference == pytest.approx(observed, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((percentile(slow, 0.025), percentile(slow, 0.975)), abs=1e-9)
    assert found.p == pytest.approx((1 + further) / (1 + RESAMPLES), abs=1e-12)
    assert 1 / (1 + RESAMPLES) < found.p < 1, "a case that tells nothing"


def test_model_and_itself_do_not_differ(models: list[list[Sample]]) -> None:
    values, drawn = measured(models[0])
    found = compare((values, values), (drawn, drawn), draw_seed_weights(SEED, RESAMPLES, 3))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_one_seed_has_no_spread_and_no_p(models: list[list[Sample]]) -> None:
    (one, drawn_one), (two, drawn_two) = (measured(model[:1]) for model in models)
    weights = draw_seed_weights(SEED, RESAMPLES, 1)
    alone = summarise(one, drawn_one, weights)
    assert (alone.mean, alone.sd) == (one[0], None)
    assert (alone.low, alone.high) == pytest.approx(tuple(np.quantile(drawn_one[0], [0.025, 0.975])), abs=1e-12)
    found = compare((one, two), (drawn_one, drawn_two), weights)
    assert found.p is None
    assert found.low is not None


def test_undefined_metric_has_no_figures() -> None:
    nothing, weights = np.full((3, 20), np.nan), draw_seed_weights(0, 20, 3)
    assert summarise(np.array([0.5, np.nan, 0.6]), nothing, weights).mean is None
    unsure = summarise(np.array([0.5, 0.4, 0.6]), nothing, weights)
    assert (unsure.mean, unsure.low, unsure.high) == (pytest.approx(0.5), None, None)
    found = compare((np.ones(3), np.zeros(3)), (nothing, nothing), weights)
    assert (found.difference, found.low, found.p) == (1, None, None)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_resampled_means_of_seeds_spread_as_t_does(count: int) -> None:
    values = np.random.Generator(np.random.Philox(3)).normal(size=count)
    weights = draw_seed_weights(0, 40_000, count)
    assert weights.sum(1) == pytest.approx(0, abs=1e-12)
    reach = np.quantile(np.abs(weights @ values), [0.95, 0.99]) / (values.std(ddof=1) / math.sqrt(count))
    assert reach == pytest.approx(stats.t.ppf([0.975, 0.995], count - 1), rel=0.15)


def test_two_seeds_that_differ_by_half_prove_nothing() -> None:
    """Differences of 0.10 and 0.05, the same in all patients: t has p = 0.20 and an interval from -0.24 to 0.39."""
    one, two = np.array([0.90, 0.85]), np.array([0.80, 0.80])
    drawn = tuple(np.tile(values[:, None], RESAMPLES_OF_A_STUDY) for values in (one, two))
    found = compare((one, two), drawn, draw_seed_weights(SEED, RESAMPLES_OF_A_STUDY, 2))
    assert found.p == pytest.approx(0.20, abs=0.05)
    assert (found.low, found.high) == (pytest.approx(-0.24, abs=0.06), pytest.approx(0.39, abs=0.06))
    certain = compare((one, one - 0.1), (drawn[0], drawn[0] - 0.1), draw_seed_weights(SEED, RESAMPLES_OF_A_STUDY, 2))
    assert certain.p == 1 / (1 + RESAMPLES_OF_A_STUDY)


def test_holm_is_what_r_gives() -> None:
    """p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")"""
    assert correct_for_many([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_for_many([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert correct_for_many([0.02, None]) == [0.02, None]
    assert correct_for_many([]) == []


def test_flips_are_those_counted_one_by_one() -> None:
    random = np.random.Generator(np.random.Philox(5))
    scores = [random.random((50, 3)).round(1).astype(np.float32) for _ in range(4)]
    limits = [{"a": float(run[0, 0]), "b": 0.3, "c": None if seed == 2 else 0.5} for seed, run in enumerate(scores)]
    found = find_flips(scores, limits, ("a", "b", "c"))
    parted, disagreeing = {"a": 0, "b": 0}, 0
    for image, (column, name) in itertools.product(range(50), enumerate("ab")):
        calls = [float(scores[seed][image, column]) >= float(limits[seed][name] or 0) for seed in range(4)]
        parted[name] += len(set(calls)) == 2
        disagreeing += sum(one != two for one, two in itertools.combinations(calls, 2))
    assert found.classes == {"a": parted["a"] / 50, "b": parted["b"] / 50, "c": None}
    assert found.share == pytest.approx(sum(parted.values()) / 100)
    assert found.pairwise == pytest.approx(disagreeing / 6 / 100)
    assert found.predictions == 100


def test_one_seed_flips_nothing_that_could_be_known() -> None:
    found = find_flips([np.ones((4, 1), np.float32)], [{"a": 0.5}], ("a",))
    assert (found.share, found.pairwise, found.predictions) == (None, None, 0)
