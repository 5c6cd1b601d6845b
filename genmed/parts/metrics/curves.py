"""Curves over all thresholds: ROC, precision and recall, net benefit; what plots are made of."""

from dataclasses import dataclass

import numpy as np

from genmed.parts.metrics.statistics import Flags, Floats

MOST_POINTS = 300
"""Of a curve that is drawn; more are not seen."""


@dataclass(frozen=True)
class Curve:
    """Points in the order in which they are joined."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class _Counts:
    """What is called at each of T thresholds, from the highest score down; before them all: nothing."""

    scores: Floats
    """(T,)"""
    true: Floats
    """(T + 1,): images with the class."""
    false: Floats
    """(T + 1,): images without."""


def draw_roc(scores: Floats, truth: Flags) -> Curve:
    """False positive rate against sensitivity. scores, truth: (N,), both kinds present."""
    counts = _count(scores, truth)
    return _thin(counts.false / counts.false[-1], counts.true / counts.true[-1])


def draw_precision_recall(scores: Floats, truth: Flags) -> Curve:
    """Recall against precision, as average precision sums them: no point before the first image.

    scores, truth: (N,), both kinds present.
    """
    counts = _count(scores, truth)
    true, false = counts.true[1:], counts.false[1:]
    return _thin(true / true[-1], true / (true + false))


def draw_net_benefit(scores: Floats, truth: Flags, thresholds: Floats) -> Curve:
    """Threshold against net benefit an image. Vickers and Elkin 2006.

    scores, truth: (N,); thresholds: (T,) below 1.
    """
    counts = _count(scores, truth)
    called = np.searchsorted(-counts.scores, -thresholds, side="right")
    odds = thresholds / (1 - thresholds)
    benefit = (counts.true[called] - odds * counts.false[called]) / len(scores)
    return Curve(thresholds.tolist(), benefit.tolist())


def _count(scores: Floats, truth: Flags) -> _Counts:
    order = np.argsort(-scores, kind="stable")
    score, there = scores[order], truth[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # equal scores are called together
    true, false = (np.concatenate([[0.0], np.cumsum(kind)[last]]) for kind in (there, ~there))
    return _Counts(score[last], true, false)


def _thin(x: Floats, y: Floats) -> Curve:
    """Without points in the middle of straight lines, then at most MOST_POINTS, evenly along the curve."""
    turns = np.ones(len(x), dtype=bool)
    if len(x) > 2:
        dx, dy = np.diff(x), np.diff(y)
        turns[1:-1] = dx[1:] * dy[:-1] != dx[:-1] * dy[1:]
    x, y = x[turns], y[turns]
    if len(x) > MOST_POINTS:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS)).clip(max=len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(x.tolist(), y.tolist())
