"""Metrics in resamples against scikit-learn, and intervals against a bootstrap written out image by image."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as known
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from genmed.ground.randomness import draw_uniform
from genmed.parts.metrics.calibration import BINS, draw_reliability, expit, fit_logistic, to_logits
from genmed.parts.metrics.intervals import LEAST_PATIENTS, estimate, resample
from genmed.parts.metrics.of_class import OF_RANKING, OF_SUMS
from genmed.parts.metrics.sample import Sample
from genmed.parts.metrics.thresholds import choose_threshold

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)
Values = npt.NDArray[Any]


def draw(images: int, classes: int, patients: int, kind: Any = "multi-label", unknown: float = 0.1) -> Sample:
    """Scores that know something of the truth, and tie now and then."""
    random = np.random.Generator(np.random.Philox(images + classes))
    if kind == "multi-label":
        truth = (random.random((images, classes)) < np.linspace(0.15, 0.5, classes)).astype(np.int8)
        scores = 1 / (1 + np.exp(-np.round(random.normal(size=truth.shape) * 1.5 + truth - 0.7, 1)))
        truth[random.random(truth.shape) < unknown] = -1
    else:
        level = random.integers(0, classes, images)
        truth = np.eye(classes, dtype=np.int8)[level]
        scores = np.exp(random.normal(size=truth.shape) + 1.2 * truth)
        scores /= scores.sum(1, keepdims=True)
        truth[random.random(images) < unknown] = -1
    units = np.concatenate([np.arange(patients), random.integers(0, patients, images - patients)])
    names = tuple(f"c{column}" for column in range(classes))
    return Sample(scores.astype(np.float32), truth, units, names, kind, dict.fromkeys(names, 0.4))


def measure_by_scikit_learn(scores: Values, truth: Values, threshold: float) -> dict[str, float]:
    """Of one class; nan where it lacks a kind of truth."""
    if len(set(truth.tolist())) < 2:
        return dict.fromkeys(("auroc", "average_precision", "sensitivity", "specificity", "f1", "brier", "ece"), np.nan)
    called = scores >= threshold
    so, said = calibration_curve(truth, scores, n_bins=BINS)
    images = [count for count in np.histogram(np.digitize(scores, np.linspace(0, 1, BINS + 1)[1:-1], right=True),
                                              bins=range(BINS + 1))[0] if count]  # fmt: skip
    return {
        "auroc": known.roc_auc_score(truth, scores),
        "average_precision": known.average_precision_score(truth, scores),
        "sensitivity": known.recall_score(truth, called),
        "specificity": known.recall_score(truth, called, pos_label=0),
        "f1": known.f1_score(truth, called),
        "brier": known.brier_score_loss(truth, scores),
        "ece": float(np.average(np.abs(so - said), weights=images)),
    }


@st.composite
def scored(draw: st.DrawFn) -> tuple[Values, Values]:
    """Scores of few values, so that many tie, and truths of both kinds."""
    count = draw(st.integers(2, 40))
    few = st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 1.0])
    scores = draw(st.lists(draw(st.sampled_from([few, st.floats(0, 1, width=32)])), min_size=count, max_size=count))
    truth = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count).filter(lambda t: len(set(t)) == 2))
    return np.array(scores, dtype=np.float32), np.array(truth, dtype=np.int8)


@examples
@given(scored())
def test_metrics_of_a_class_are_scikit_learn_s(drawn: tuple[Values, Values]) -> None:
    scores, truth = drawn
    sample = Sample(scores[:, None], truth[:, None], np.arange(len(truth)), ("a",), "multi-label", {"a": 0.25})
    found = estimate(sample, seed=0, resamples=2)
    for name, value in measure_by_scikit_learn(scores.astype(np.float64), truth, 0.25).items():
        assert found[f"{name}_a"].value == pytest.approx(value, abs=1e-9), name
        assert found[f"{name}_macro"].value == found[f"{name}_a"].value
    called = scores >= np.float64(0.25)
    right, wrong = (called & (truth == 1)).mean(), (called & (truth == 0)).mean()
    assert found["net_benefit_a"].value == pytest.approx(right - wrong * 0.25 / 0.75)


@examples
@given(scored())
def test_threshold_is_where_the_roc_curve_is_furthest_from_chance(drawn: tuple[Values, Values]) -> None:
    scores, truth = drawn
    false, true, thresholds = known.roc_curve(truth, scores, drop_intermediate=False)
    best = int(np.argmax(true[1:] - false[1:])) + 1  # the first threshold calls nobody
    found = choose_threshold(scores, truth)
    assert found == pytest.approx(thresholds[best])
    assert choose_threshold(np.append(scores, 0.3), np.append(truth, -1).astype(np.int8)) == found


def test_threshold_needs_both_kinds() -> None:
    for truth in ([1, 1, -1], [0, -1, 0], [-1, -1, -1]):
        assert choose_threshold(np.array([0.1, 0.2, 0.3], np.float32), np.array(truth, np.int8)) is None


@pytest.mark.parametrize("kind", ["multi-class", "ordinal"])
def test_metrics_of_exclusive_classes_are_scikit_learn_s(kind: Any) -> None:
    sample = draw(200, 4, 60, kind)
    found = estimate(sample, seed=0, resamples=2)
    rows = sample.truth[:, 0] >= 0
    true, said = sample.truth[rows].argmax(1), sample.scores[rows].argmax(1)
    assert found["accuracy"].value == pytest.approx(known.accuracy_score(true, said))
    if kind == "ordinal":
        assert found["quadratic_kappa"].value == pytest.approx(known.cohen_kappa_score(true, said, weights="quadratic"))


def test_calibration_slope_is_that_of_an_unpenalised_logistic_regression() -> None:
    sample = draw(300, 1, 300, unknown=0)
    logits, truth = to_logits(sample.scores[:, 0]), sample.truth[:, 0]
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(logits[:, None], truth)
    fit = fit_logistic(logits, truth == 1)
    assert fit is not None
    assert fit.slope == pytest.approx(model.coef_[0, 0], rel=1e-5)
    assert fit.intercept == pytest.approx(model.intercept_[0], rel=1e-4)
    assert estimate(sample, 0, 2)["calibration_slope_c0"].value == pytest.approx(fit.slope)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]), ([0.5] * 4, [0, 1, 0, 1]), ([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])],
)
def test_score_that_separates_or_says_nothing_has_no_slope(scores: list[float], truth: list[int]) -> None:
    sample = Sample(
        np.array(scores, np.float32)[:, None], np.array(truth, np.int8)[:, None], np.arange(4), ("a",), "binary", {}
    )
    found = estimate(sample, 0, 2)
    assert found["calibration_slope_a"].value is None
    assert found["sensitivity_a"].value is None  # nobody chose a threshold
    assert found["auroc_a"].value in (0.5, 1.0)


def test_reliability_is_scikit_learn_s_calibration_curve() -> None:
    sample = draw(500, 1, 500, unknown=0)
    scores, truth = sample.scores[:, 0].astype(np.float64), sample.truth[:, 0] == 1
    drawn = draw_reliability(scores, truth)
    so, said = calibration_curve(truth, scores, n_bins=BINS)
    assert drawn.so == pytest.approx(so.tolist())
    assert drawn.said == pytest.approx(said.tolist())
    assert sum(drawn.images) == 500


def bootstrap_slowly(sample: Sample, seed: int, resamples: int) -> dict[str, tuple[float, float]]:
    """Each resample made of whole patients, image by image, and measured by scikit-learn."""
    patients = sorted(set(sample.units.tolist()))
    images = {patient: np.flatnonzero(sample.units == patient).tolist() for patient in patients}
    values: dict[str, list[float]] = {}
    for number in range(resamples):
        drawn = [patients[int(u * len(patients))] for u in draw_uniform((seed, "bootstrap", number), (len(patients),))]
        rows = [row for patient in drawn for row in images[patient]]
        by_metric: dict[str, list[float]] = {}
        for column, name in enumerate(sample.classes):
            labelled = [row for row in rows if sample.truth[row, column] >= 0]
            scores = sample.scores[labelled, column].astype(np.float64)
            for metric, value in measure_by_scikit_learn(scores, sample.truth[labelled, column], 0.4).items():
                values.setdefault(f"{metric}_{name}", []).append(value)
                by_metric.setdefault(metric, []).append(value)
        for metric, of_classes in by_metric.items():
            values.setdefault(f"{metric}_macro", []).append(float(np.nanmean(of_classes)))
    found = {}
    for name, drawn in values.items():
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        found[name] = (float(low), float(high))
    return found


def test_intervals_are_those_of_a_bootstrap_over_patients_written_out() -> None:
    sample = draw(240, 3, 70)
    found = estimate(sample, seed=5, resamples=150)
    for name, (low, high) in bootstrap_slowly(sample, 5, 150).items():
        assert (found[name].low, found[name].high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert found["auroc_macro"].low != found["auroc_c0"].low


def test_slope_of_a_resample_is_near_that_of_a_fit_of_its_own() -> None:
    drawn = draw(800, 1, 400, unknown=0)
    rare = expit(to_logits(drawn.scores) - 2.5).astype(np.float32)  # so that level and slope depend on each other
    sample = replace(drawn, scores=rare)
    slopes = resample(sample, 1, 300)["calibration_slope_c0"]
    fitted = []
    for number in range(300):
        chosen = (draw_uniform((1, "bootstrap", number), (400,)) * 400).astype(int)
        rows = np.concatenate([np.flatnonzero(sample.units == patient) for patient in chosen])
        fit = fit_logistic(to_logits(sample.scores[rows, 0]), sample.truth[rows, 0] == 1)
        assert fit is not None
        fitted.append(fit.slope)
    assert np.median(np.abs(slopes - fitted)) < 0.08 * np.std(fitted)
    low, high = np.quantile(fitted, [0.025, 0.975])
    found = estimate(sample, seed=1, resamples=300)["calibration_slope_c0"]
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_interval_needs_ten_patients_with_the_class_and_ten_without() -> None:
    truth = np.zeros((60, 3), np.int8)
    truth[:LEAST_PATIENTS, 0] = 1  # ten patients
    truth[: LEAST_PATIENTS - 1, 1] = 1  # nine
    truth[9:, 2] = 1  # nine without
    scores = np.random.Generator(np.random.Philox(1)).random((60, 3)).astype(np.float32)
    names = ("ten", "nine", "all but nine")
    found = estimate(Sample(scores, truth, np.arange(60), names, "multi-label", dict.fromkeys(names, 0.5)), 0, 50)
    for metric in (*OF_RANKING, *OF_SUMS):
        assert found[f"{metric}_ten"].low is not None
        assert found[f"{metric}_macro"].low is None  # a mean knows no more than its classes
        for name in names[1:]:
            assert (found[f"{metric}_{name}"].low, found[f"{metric}_{name}"].high) == (None, None)
            assert found[f"{metric}_{name}"].value is not None
    alone = estimate(Sample(scores[:, :1], truth[:, :1], np.arange(60), names[:1], "binary", {}), 0, 50)
    assert alone["auroc_macro"].low == alone["auroc_ten"].low is not None
    twins = np.maximum(np.arange(60) - 3, 0)  # the first four images are of one patient
    of_nine = np.where(np.arange(60) < 12, 1, 0).astype(np.int8)[:, None]
    found = estimate(Sample(scores[:, :1], of_nine, twins, ("nine",), "binary", {}), 0, 50)
    assert found["auroc_nine"].low is None
    found = estimate(Sample(scores[:, :1], 1 - of_nine, twins, ("nine",), "binary", {}), 0, 50)
    assert found["auroc_nine"].low is None
    images_of_nine = Sample(scores, truth, np.arange(60) % 9, names, "multi-label", {})
    assert {value.low for value in estimate(images_of_nine, 0, 50).values()} == {None}


def test_class_without_both_kinds_has_no_value_and_no_part_in_the_mean() -> None:
    sample = draw(100, 3, 40)
    truth = sample.truth.copy()
    truth[:, 1] = np.where(truth[:, 1] == 1, -1, truth[:, 1])
    found = estimate(Sample(sample.scores, truth, sample.units, sample.classes, "multi-label", sample.thresholds), 0, 9)
    assert found["auroc_c1"].value is None
    others = [found["auroc_c0"].value, found["auroc_c2"].value]
    assert found["auroc_macro"].value == pytest.approx(sum(value for value in others if value) / 2)


def test_mean_over_fewer_classes_than_are_judged_has_no_interval() -> None:
    sample = draw(300, 3, 200)
    thresholds = {**sample.thresholds, "c1": None}
    found = estimate(
        Sample(sample.scores, sample.truth, sample.units, sample.classes, "multi-label", thresholds), 0, 50
    )
    assert found["sensitivity_c1"].value is None
    others = [found[f"sensitivity_{name}"].value for name in ("c0", "c2")]
    assert found["sensitivity_macro"].value == pytest.approx(sum(value for value in others if value) / 2)
    assert found["sensitivity_macro"].low is None
    assert found["sensitivity_c0"].low is not None
    assert found["auroc_macro"].low is not None
    assert found["brier_macro"].low is not None


def test_accuracy_of_few_known_patients_has_no_interval() -> None:
    sample = draw(300, 3, 300, kind="multi-class")
    for few, sure in ((LEAST_PATIENTS - 1, False), (LEAST_PATIENTS, True)):
        truth = sample.truth.copy()
        truth[few:] = -1
        found = estimate(replace(sample, truth=truth), 0, 50)
        assert found["accuracy"].value is not None
        assert (found["accuracy"].low is not None) == sure


def test_images_of_which_nothing_can_be_measured_have_no_values() -> None:
    sample = draw(20, 2, 20)
    found = estimate(replace(sample, truth=np.zeros_like(sample.truth)), 0, 9)
    assert {(value.value, value.low, value.high) for value in found.values()} == {(None, None, None)}


def test_resample_does_not_depend_on_how_many_there_are_or_how_they_are_portioned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample = draw(90, 2, 30)
    many = resample(sample, 3, 40)
    monkeypatch.setattr("genmed.parts.metrics.intervals.BYTES_AT_ONCE", 90 * 7)
    few = resample(sample, 3, 25)
    for name, values in few.items():
        assert values.tolist() == pytest.approx(many[name][:25].tolist(), nan_ok=True, abs=1e-12)
