"""Metrics against scikit-learn, and against their definitions counted out; what is undefined is None."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from genmed.parts.metrics import Scores, Truth
from genmed.parts.metrics.measuring import measure
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.metrics.of_all import OF_ALL
from genmed.parts.metrics.of_class import OF_RANKING, OF_SUMS

examples = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def measure_class(scores: NDArray[np.float32], truth: NDArray[np.uint8]) -> tuple[float, float]:
    """AUROC and average precision of one class."""
    area, _, precision, _ = measure("val", scores[:, None], truth[:, None].astype(np.int8), ["a"]).values()
    assert area is not None
    assert precision is not None
    return area, precision


def count_pairs(scores: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    """The share of (positive, negative) pairs in which the positive scores higher; ties count half."""
    above = scores[truth == 1][:, None] > scores[truth == 0][None, :]
    level = scores[truth == 1][:, None] == scores[truth == 0][None, :]
    return float((above + level / 2).mean())


def sum_precisions(scores: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    """Over the thresholds from high to low: precision times what recall it gains."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        recall = float((truth[chosen] == 1).sum() / (truth == 1).sum())
        total += (recall - before) * float((truth[chosen] == 1).mean())
        before = recall
    return total


@st.composite
def scored(draw: st.DrawFn) -> tuple[Scores, Truth]:
    """Scores of few values, so that many tie, and truths of both kinds."""
    count = draw(st.integers(2, 40))
    few = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
    any_score = st.floats(0, 1, width=32)
    scores = draw(st.lists(draw(st.sampled_from([few, any_score])), min_size=count, max_size=count))
    truth = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count).filter(lambda t: len(set(t)) == 2))
    return np.array(scores, dtype=np.float32), np.array(truth, dtype=np.uint8)


@examples
@given(scored())
def test_area_is_the_share_of_ordered_pairs_and_precision_is_summed_over_recall(case: tuple[Scores, Truth]) -> None:
    assert measure_class(*case) == pytest.approx((count_pairs(*case), sum_precisions(*case)), abs=1e-12)


@examples
@given(scored())
def test_metrics_are_scikit_learns(case: tuple[Scores, Truth]) -> None:
    scores, truth = case
    reference = roc_auc_score(y_true=truth, y_score=scores), average_precision_score(y_true=truth, y_score=scores)
    assert measure_class(scores, truth) == pytest.approx(reference, abs=1e-12)


@examples
@given(scored())
def test_order_of_images_changes_no_bit(case: tuple[Scores, Truth]) -> None:
    scores, truth = case
    order = np.random.Generator(np.random.Philox(len(scores))).permutation(len(scores))
    assert measure_class(scores[order], truth[order]) == measure_class(scores, truth)


@examples
@given(scored())
def test_reversed_scores_have_the_complement_of_the_area(case: tuple[Scores, Truth]) -> None:
    scores, truth = case
    area, _ = measure_class(scores, truth)
    assert measure_class(-scores, truth)[0] == pytest.approx(1 - area, abs=1e-12)
    assert measure_class(scores, 1 - truth)[0] == pytest.approx(1 - area, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "truth", "area", "precision"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75, 0.5 + 0.5 * 2 / 3),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0, 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0, 0.5 / 3 + 0.5 / 2),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 0], 0.5, 0.25),
        ([0.5, 0.5, 0.7, 0.1], [1, 0, 1, 0], 0.875, 0.5 + 0.5 * 2 / 3),
    ],
)
def test_metrics_by_hand(scores: list[float], truth: list[int], area: float, precision: float) -> None:
    given_scores, given_truth = np.array(scores, dtype=np.float32), np.array(truth, dtype=np.uint8)
    assert measure_class(given_scores, given_truth) == pytest.approx((area, precision))


@pytest.mark.parametrize("split", ["val", "test"])
def test_names_are_split_metric_class_and_then_macro(split: str) -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.3], [0.4, 0.6]], dtype=np.float32)
    truth = np.array([[0, 1], [1, 0], [0, 0]], dtype=np.uint8)
    found = measure(split, scores, truth, ["Effusion", "Pleural_Thickening"])
    expected = [
        f"{split}_{metric}_{name}"
        for metric in ("auroc", "average_precision")
        for name in ("Effusion", "Pleural_Thickening", "macro")
    ]
    assert list(found) == expected


def test_each_class_is_measured_on_its_own_column() -> None:
    random = np.random.Generator(np.random.Philox(3))
    scores = random.random((60, 3), dtype=np.float32)
    truth = (random.random((60, 3)) < 0.3).astype(np.uint8)
    found = measure("val", scores, truth, ["a", "b", "c"])
    areas = [roc_auc_score(truth[:, column], scores[:, column]) for column in range(3)]
    precisions = [average_precision_score(truth[:, column], scores[:, column]) for column in range(3)]
    assert [found[f"val_auroc_{name}"] for name in "abc"] == pytest.approx(areas)
    assert [found[f"val_average_precision_{name}"] for name in "abc"] == pytest.approx(precisions)
    assert found["val_auroc_macro"] == pytest.approx(np.mean(areas))
    assert found["val_average_precision_macro"] == pytest.approx(np.mean(precisions))


def test_class_with_one_kind_of_truth_is_none_and_left_out_of_the_mean() -> None:
    scores = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.6], [0.5, 0.4, 0.9]], dtype=np.float32)
    truth = np.array([[0, 0, 1], [1, 0, 1], [1, 0, 1]], dtype=np.uint8)
    found = measure("test", scores, truth, ["both", "never", "always"])
    assert found == {
        "test_auroc_both": 1.0,
        "test_auroc_never": None,
        "test_auroc_always": None,
        "test_auroc_macro": 1.0,
        "test_average_precision_both": 1.0,
        "test_average_precision_never": None,
        "test_average_precision_always": None,
        "test_average_precision_macro": 1.0,
    }


@pytest.mark.parametrize("value", [0, 1])
def test_no_class_with_both_kinds_of_truth_has_no_mean(value: int) -> None:
    found = measure("val", np.zeros((3, 2), np.float32), np.full((3, 2), value, np.uint8), ["a", "b"])
    assert set(found.values()) == {None}
    assert "val_auroc_macro" in found


@examples
@given(st.lists(scored().filter(lambda case: len(case[0]) >= 6), min_size=1, max_size=4), st.sets(st.integers(0, 3)))
def test_mean_is_over_the_classes_that_have_a_figure(cases: list[tuple[Scores, Truth]], degenerate: set[int]) -> None:
    scores = np.stack([case[0][:6] for case in cases], axis=1)
    truth = np.stack([case[1][:6] for case in cases], axis=1)
    truth[:, [column for column in degenerate if column < len(cases)]] = 0
    classes = [f"c{column}" for column in range(len(cases))]
    found = measure("val", scores, truth, classes)
    for metric in OF_RANKING:
        figures = [found[f"val_{metric}_{name}"] for name in classes]
        present = [figure for figure in figures if figure is not None]
        assert [figure is not None for figure in figures] == [0 < truth[:, c].sum() < 6 for c in range(len(cases))]
        mean = found[f"val_{metric}_macro"]
        assert mean == (pytest.approx(float(np.mean(present))) if present else None)


def test_figures_are_plain_floats_that_json_can_hold() -> None:
    scores = np.array([[0.1], [0.9]], dtype=np.float32)
    found = measure("val", scores, np.array([[0], [1]], dtype=np.uint8), ["a"])
    assert {type(value) for value in found.values()} == {float}


def test_each_metric_has_a_name_that_people_read() -> None:
    assert {*METRIC_NAMES} == {*OF_RANKING, *OF_SUMS}
    assert {*WHOLE_NAMES} == {metric for metrics in OF_ALL.values() for metric in metrics}
