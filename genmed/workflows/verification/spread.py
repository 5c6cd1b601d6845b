"""How far the metrics of one config lie apart from seed to seed: what a run with other bits may be expected to give."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path

from genmed.parts.metrics.comparison import FEWEST_SEEDS
from genmed.records.run_folder import RunDocument
from genmed.workflows.siblings import list_siblings
from genmed.workflows.verification.report import Bounds

LEVEL = 0.95


def bounds_of_tolerance(recorded: Mapping[str, float | None], tolerance: float) -> Bounds:
    """Each metric so far from its recorded value, either way."""
    around = {name: (value - tolerance, value + tolerance) for name, value in recorded.items() if value is not None}
    return Bounds(f"each metric within {tolerance:g} of the recorded one", around)


def bounds_of_seeds(root: Path, document: RunDocument) -> Bounds | None:
    """Prediction intervals for one more seed, from the finished runs below `root` that are as this one but for it.

    Mean +- t * s * sqrt(1 + 1/n), at 95% for each metric by itself (Hahn and Meeker 1991, chapter 4). None where
    there are less than 5 seeds, this run's own included.
    """
    from scipy.special import stdtrit

    siblings = [sibling.document for sibling in list_siblings(root, document)]
    by_seed = {other.seed: other.metrics for other in siblings}
    count = len(by_seed)
    if count < FEWEST_SEEDS:
        return None
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * math.sqrt(1 + 1 / count)
    bounds = {}
    for name in document.metrics:
        values = [value for metrics in by_seed.values() if (value := metrics.get(name)) is not None]
        if len(values) == count:
            mean, spread = statistics.fmean(values), statistics.stdev(values)
            bounds[name] = mean - reach * spread, mean + reach * spread
    return Bounds(f"{LEVEL:.0%} prediction intervals of {count} seeds of this config", bounds)
