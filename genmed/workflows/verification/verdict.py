"""The table of verdicts in the reproducibility contract, and what may have caused a difference, the likeliest first."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from genmed.workflows.identity import Mismatch
from genmed.workflows.verification.report import Bounds, MetricComparison, Verdict

# Of what can change bits, what was most often the cause comes first; the first pattern that matches counts.
LIKELIHOOD = (
    "initial weights",
    "code*",
    "threads.*",
    "cpu.*_in_effect",
    "determinism.*",
    "gpus.*",
    "cuda.*",
    "packages.torch",
    "libraries.torch_build",
    "packages.*",
    "libraries.*",
    "cpu.*",
    "*",
)


def judge(*, parted: bool, elsewhere: bool, bounds: Bounds | None, metrics: Sequence[MetricComparison]) -> Verdict:
    """parted: whether traces or metrics differ anywhere; elsewhere: whether environment or code differ in what can
    change bits; bounds: None where there is nothing to judge the metrics by."""
    if not parted:
        return "identical"
    if elsewhere and bounds and metrics and not bounds.find_outside(metrics):
        return "consistent"
    return "diverged"


def order_by_likelihood(causes: Sequence[Mismatch]) -> list[Mismatch]:
    """What can change bits before what cannot."""

    def rank(entry: Mismatch) -> tuple[bool, int]:
        place = next(place for place, pattern in enumerate(LIKELIHOOD) if fnmatchcase(entry.what, pattern))
        return not entry.changes_bits, place

    return sorted(causes, key=rank)
