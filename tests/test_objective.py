"""The loss, its targets and the scores of each kind of task, against the formulas written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genmed.engine.objective import (
    Objective,
    choose_objective,
    count_outputs,
    count_terms,
    make_targets,
    score,
    sum_loss,
    weigh_targets,
)
from genmed.parts.data.records import TaskKind
from genmed.parts.metrics.measuring import measure, pool_studies
from genmed.records.config.sections import Loss

CASES: list[tuple[TaskKind, Objective]] = [
    ("multi-label", "sigmoid"),
    ("binary", "sigmoid"),
    ("binary", "softmax"),
    ("multi-class", "softmax"),
    ("ordinal", "steps"),
    ("ordinal", "softmax"),
]
EXCLUSIVE = ("multi-class", "ordinal")


def draw(kind: TaskKind, count: int, classes: int, unknown: float = 0.0, seed: int = 0) -> Any:
    """(count, classes) int8 labels of the kind, a share of them unknown; of exclusive classes whole rows are."""
    random = np.random.Generator(np.random.Philox(seed))
    if kind in EXCLUSIVE:
        labels = np.eye(classes, dtype=np.int8)[random.integers(0, classes, count)]
        labels[random.random(count) < unknown] = -1
        return labels
    labels = (random.random((count, classes)) < 0.4).astype(np.int8)
    labels[random.random((count, classes)) < unknown] = -1
    return labels


def logits_of(count: int, outputs: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, outputs, generator=torch.Generator().manual_seed(seed)) * 2


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def loss_by_hand(objective: Objective, logits: Any, labels: Any, smoothing: float, weights: Any) -> tuple[float, int]:
    """The sum and over how many terms it is, entry by entry."""
    total, terms = 0.0, 0
    for row, truth in zip(logits.double().tolist(), labels.tolist(), strict=True):
        if objective == "softmax":
            if -1 in truth:
                continue
            terms += 1
            true = truth if len(truth) > 1 else [1 - truth[0], truth[0]]
            away = math.log(sum(math.exp(value) for value in row))
            for column, value in enumerate(row):
                wanted = true[column] * (1 - smoothing) + smoothing / len(row)
                total -= weights[column] * wanted * (value - away)
            continue
        if objective == "steps":
            if -1 in truth:
                continue
            level = truth.index(1)
            pairs = [(step, float(level > step)) for step in range(len(row)) if level >= step]
        else:
            pairs = [(column, float(value)) for column, value in enumerate(truth) if value != -1]
        for column, value in pairs:
            terms += 1
            wanted = value * (1 - smoothing) + smoothing / 2
            p = sigmoid(row[column])
            total -= weights[column] * wanted * math.log(p) + (1 - wanted) * math.log(1 - p)
    return total, terms


def test_objective_is_the_task_s_unless_softmax_is_asked_for() -> None:
    chosen = {(kind, choose_objective(kind, Loss(name=name))) for kind, _ in CASES for name in ("auto", "softmax")}
    assert chosen == set(CASES)


@pytest.mark.parametrize(("kind", "objective"), CASES)
@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_formula_s(
    kind: TaskKind, objective: Objective, unknown: float, smoothing: float, weighted: bool
) -> None:
    classes = 1 if kind == "binary" else 4
    labels = draw(kind, 40, classes, unknown)
    outputs = count_outputs(objective, classes)
    assert outputs == {"sigmoid": classes, "softmax": max(classes, 2), "steps": 3}[objective]
    weights = tuple(0.5 + column for column in range(outputs)) if weighted else None
    logits, targets = logits_of(40, outputs), make_targets(objective, labels)
    found = sum_loss(objective, logits, torch.from_numpy(targets), Loss(label_smoothing=smoothing), weights)
    expected, terms = loss_by_hand(objective, logits, labels, smoothing, weights or (1.0,) * outputs)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert count_terms(objective, targets) == terms


@pytest.mark.parametrize(("kind", "objective"), CASES)
def test_unknown_label_has_no_gradient_and_no_share_in_the_metrics(kind: TaskKind, objective: Objective) -> None:
    classes = 1 if kind == "binary" else 4
    labels = draw(kind, 30, classes, 0.5, seed=5)
    targets = make_targets(objective, labels)
    logits = logits_of(30, count_outputs(objective, classes)).requires_grad_()
    sum_loss(objective, logits, torch.from_numpy(targets), Loss(label_smoothing=0.1), None).backward()
    assert logits.grad is not None
    untouched = logits.grad.numpy() == 0
    assert np.array_equal(untouched, targets == -1)
    scores = score(objective, logits.detach(), classes).numpy()
    names = [f"c{column}" for column in range(classes)]
    known = measure("val", scores, labels, names, kind)
    for column, name in enumerate(names):
        rows = labels[:, column] >= 0
        alone = measure("val", scores[rows, column : column + 1], labels[rows, column : column + 1], [name])
        assert known[f"val_auroc_{name}"] == alone[f"val_auroc_{name}"]


@pytest.mark.parametrize(("kind", "objective"), CASES)
def test_scores_are_probabilities(kind: TaskKind, objective: Objective) -> None:
    classes = 1 if kind == "binary" else 5
    logits = logits_of(50, count_outputs(objective, classes), seed=9)
    scores = score(objective, logits, classes)
    assert scores.shape == (50, classes)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    if kind in EXCLUSIVE:
        torch.testing.assert_close(scores.sum(1), torch.ones(50))
    if objective == "softmax":
        torch.testing.assert_close(scores[:, -1], logits.softmax(1)[:, -1])
    if objective == "steps":
        above = 1.0
        for step, value in enumerate(logits[0].tolist()):
            standing = above * sigmoid(value)
            assert float(scores[0, step]) == pytest.approx(above - standing, abs=1e-6)
            above = standing
        assert float(scores[0, -1]) == pytest.approx(above, abs=1e-6)


def test_balanced_weights_are_those_of_known_labels() -> None:
    labels = np.array([[1, -1], [0, 0], [0, 1], [-1, 0]], dtype=np.int8)
    assert weigh_targets("sigmoid", labels, "balanced") == (2.0, 2.0)
    exclusive = np.eye(3, dtype=np.int8)[[0, 0, 0, 1, 1, 2]]
    assert weigh_targets("softmax", exclusive, "balanced") == (6 / 9, 6 / 6, 6 / 3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.integers(-1, 1)), min_size=1, max_size=30))
def test_study_has_the_highest_score_and_label_of_its_images(rows: list[tuple[int, float, int]]) -> None:
    studies = [f"s{study}" for study, _, _ in rows]
    scores = np.array([[value] for _, value, _ in rows], dtype=np.float32)
    truth = np.array([[label] for _, _, label in rows], dtype=np.int8)
    pooled, known = pool_studies(scores, truth, studies)
    expected = {name: max(s for s, n in zip(scores[:, 0], studies, strict=True) if n == name) for name in studies}
    labels = {name: max(t for t, n in zip(truth[:, 0], studies, strict=True) if n == name) for name in studies}
    assert pooled[:, 0].tolist() == [expected[name] for name in sorted(expected)]
    assert known[:, 0].tolist() == [labels[name] for name in sorted(labels)]


def test_accuracy_and_kappa_are_given_where_classes_exclude_each_other() -> None:
    truth = np.eye(3, dtype=np.int8)[[0, 1, 2, 2, 1, 0]]
    scores = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 1, 2]]
    assert "test_accuracy" not in measure("test", scores, truth, "abc")
    found = measure("test", scores, truth, "abc", "multi-class")
    assert found["test_accuracy"] == 4 / 6
    assert "test_quadratic_kappa" not in found
    ordinal = measure("test", scores, truth, "abc", "ordinal")
    # Cohen 1968: 1 - sum(w * observed) / sum(w * expected), w the squared distance.
    observed, seen, true = np.zeros((3, 3)), scores.sum(0), truth.sum(0)
    for row in range(6):
        observed[truth[row].argmax(), scores[row].argmax()] += 1
    w = (np.arange(3)[:, None] - np.arange(3)) ** 2
    expected = 1 - (w * observed).sum() / (w * np.outer(true, seen) / 6).sum()
    assert ordinal["test_quadratic_kappa"] == pytest.approx(expected)
