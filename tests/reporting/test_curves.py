"""Curves that are drawn, against scikit-learn and against the metrics beside them; choice of errors; scales."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as known

from genmed.parts.metrics.curves import MOST_POINTS, draw_net_benefit, draw_precision_recall, draw_roc
from genmed.parts.metrics.of_class import Judged, net_benefit
from genmed.parts.report.errors import choose_errors
from genmed.parts.report.numbers import make_axis, make_epoch_axis

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def draw(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that tie now and then, and their truth."""
    random = np.random.Generator(np.random.Philox(seed))
    truth = random.random(images) < 0.3
    truth[:2] = True, False
    return np.round(np.clip(random.normal(0.4 + 0.2 * truth, 0.2), 0.01, 0.98), 2), truth


@pytest.mark.parametrize("images", [2, 30, 400])
def test_area_under_the_drawn_roc_is_the_auroc(images: int) -> None:
    scores, truth = draw(images)
    curve = draw_roc(scores, truth)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(known.roc_auc_score(truth, scores), abs=1e-3)


def test_long_curve_is_thinned_and_keeps_its_area() -> None:
    random = np.random.Generator(np.random.Philox(1))
    truth = random.random(20_000) < 0.1
    scores = random.normal(truth * 1.0, 1)
    curve = draw_roc(scores, truth)
    assert len(curve.x) <= MOST_POINTS
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(known.roc_auc_score(truth, scores), abs=2e-3)


def test_points_of_precision_and_recall_are_scikit_learns() -> None:
    scores, truth = draw(60)
    precision, recall, _ = known.precision_recall_curve(truth, scores)
    points = {(round(a, 9), round(b, 9)) for a, b in zip(recall.tolist(), precision.tolist(), strict=True)}
    curve = draw_precision_recall(scores, truth)
    assert {(round(a, 9), round(b, 9)) for a, b in zip(curve.x, curve.y, strict=True)} <= points
    assert curve.x[-1] == 1


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.41, 0.9])
def test_net_benefit_curve_has_the_metric_at_its_threshold(threshold: float) -> None:
    scores, truth = draw(200)
    sums = net_benefit(Judged(scores, truth, threshold))
    assert sums is not None
    expected = float(sums.combine(sums.terms.sum(0)[:, None])[0])
    assert draw_net_benefit(scores, truth, np.array([threshold])).y == [pytest.approx(expected)]


def test_errors_are_wrong_and_the_furthest_first_and_no_image_twice() -> None:
    truth = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, -1]], np.int8)
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.7], [0.8, 0.2], [0.1, 0.9]], np.float32)
    found = choose_errors(scores, truth, ("a", "b"), "multi-label", {"a": 0.5, "b": 0.5})
    assert [(entry.row, entry.name, entry.kind) for entry in found] == [
        (0, "a", "false positive"),
        (2, "b", "false positive"),
        (1, "a", "false negative"),
    ]
    assert choose_errors(scores, truth, ("a", "b"), "multi-label", {"a": None, "b": None}) == []


def test_errors_of_classes_that_exclude_each_other_are_by_the_score_of_the_guess() -> None:
    truth = np.eye(3, dtype=np.int8)[[0, 1, 2, 2]]
    scores = np.array([[0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0], [0.1, 0.1, 0.8]], np.float32)
    found = choose_errors(scores, truth, ("x", "y", "z"), "multi-class", {})
    assert [(entry.row, entry.name, entry.kind) for entry in found] == [(2, "x", "is z"), (0, "y", "is x")]


@given(st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6), min_size=1, max_size=6))
@examples
def test_scale_holds_all_values_and_has_few_round_ticks(values: list[float]) -> None:
    axis = make_axis("loss", values)
    assert axis.low <= min(values) + 1e-9 * abs(min(values))
    assert axis.high >= max(values) - 1e-9 * abs(max(values))
    assert 2 <= len(axis.ticks) <= 8
    shown = [axis.say(tick) for tick in axis.ticks]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("last", [1, 2, 5, 17, 300])
def test_epochs_are_whole_numbers(last: int) -> None:
    axis = make_epoch_axis(last)
    assert all(tick == int(tick) and axis.low <= tick <= axis.high for tick in axis.ticks)
    assert len(axis.ticks) <= 8
