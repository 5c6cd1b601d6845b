"""What a verification found, as people and scripts read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from genmed.engine.trace import Divergence
from genmed.workflows.identity import Mismatch

Verdict = Literal["identical", "consistent", "diverged", "not comparable"]
EXIT_CODES: dict[Verdict, int] = {"identical": 0, "consistent": 1, "diverged": 1, "not comparable": 2}


@dataclass(frozen=True)
class MetricComparison:
    """One metric then and now; `found` is None where training stopped before."""

    name: str
    recorded: float | None
    found: float | None

    @property
    def difference(self) -> float | None:
        if self.recorded is None or self.found is None:
            return None
        return self.found - self.recorded


@dataclass(frozen=True)
class SegmentReport:
    """One stretch between two kept states."""

    segment: int
    """From 1."""
    first_step: int
    last_step: int
    steps_compared: int
    identical: bool

    def describe(self) -> str:
        """`segment 3 (steps 101 to 150): identical`."""
        verdict = "identical" if self.identical else "diverged"
        return f"segment {self.segment} (steps {self.first_step} to {self.last_step}): {verdict}"


@dataclass(frozen=True)
class Localisation:
    """What computing the first differing step twice more, from the state before it, tells."""

    step: int
    repeats: bool
    """Whether both repetitions gave the same bits."""
    agrees_with_record: bool
    """Whether the first of them gave the recorded ones."""
    says: str
    """For people, in one sentence."""
    module: str | None = None
    """The first whose result differs, by its dotted name: '' is the model itself, '(outside)' what is not of it."""
    kind: str | None = None
    """Its class."""
    phase: str | None = None
    """forward, backward or update."""
    operation: str | None = None
    """As torch's dispatcher names it, e.g. aten::mul."""
    digests: tuple[str, str] | None = None
    """Of the two results."""


@dataclass(frozen=True)
class Bounds:
    """Between which values a metric may lie for a run with other bits to be consistent."""

    says: str
    by_metric: Mapping[str, tuple[float, float]]

    def find_outside(self, metrics: Sequence[MetricComparison]) -> list[str]:
        """Names of those that are outside, or undefined on one side alone."""
        return [entry.name for entry in metrics if not self._holds(entry)]

    def _holds(self, entry: MetricComparison) -> bool:
        if entry.recorded is None or entry.found is None:
            return entry.recorded == entry.found
        low, high = self.by_metric.get(entry.name, (entry.recorded, entry.recorded))
        return low <= entry.found <= high


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    run: str
    verdict: Verdict
    status: str
    """Of the run: one that is not completed is compared as far as it was recorded."""
    steps_compared: int
    steps_total: int
    first_divergence: Divergence | None = None
    cause: Sequence[Mismatch] = ()
    """The likeliest first."""
    metrics: Sequence[MetricComparison] = ()
    problems: Sequence[str] = ()
    """Why it is not comparable, or not consistent."""
    localisation: Localisation | None = None
    segments: Sequence[SegmentReport] = ()
    """Those that were run apart from each other; empty where the run was computed in one piece."""
    segments_total: int = 0
    bounds: Bounds | None = field(default=None)
    code_diff: str = ""
    data_differences: int = 0
    """How many there are, where the data are not those of the run: `cause` names the first of them."""

    @property
    def next_step(self) -> str:
        """What a person can do about it; empty where nothing is to be done, or the problems say it."""
        if self.data_differences:
            return "bring back the data that the run's data-images.csv lists, or name their folder with --data-root"
        return ""

    @property
    def is_audit(self) -> bool:
        """Whether only some of the segments were run."""
        return 0 < len(self.segments) < self.segments_total

    @property
    def headline(self) -> str:
        """The verdict; an audit without a difference says how much it looked at, and nothing more."""
        if self.is_audit and self.verdict == "identical":
            return f"{len(self.segments)} of {self.segments_total} segments identical"
        return self.verdict

    def exit_code(self, accept_consistent: bool = False) -> int:
        return 0 if accept_consistent and self.verdict == "consistent" else EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        parted, located = self.first_divergence, self.localisation
        module = located.module if located else None
        return {
            "schema": 1,
            "verdict": self.headline,
            "run": self.run,
            "steps_compared": self.steps_compared,
            "steps_total": self.steps_total,
            "first_divergence": parted and {**asdict(parted), "module": module},
            "cause": [entry.to_json() for entry in self.cause],
            "metrics": [
                {"name": m.name, "recorded": m.recorded, "found": m.found, "difference": m.difference}
                for m in self.metrics
            ],
            "problems": list(self.problems),
            "localisation": located and asdict(located),
            "segments": (
                self.segments_total
                and {"total": self.segments_total, "checked": [asdict(entry) for entry in self.segments]}
            )
            or None,
            "status": self.status,
            "judged_by": self.bounds and self.bounds.says,
            "code_diff": self.code_diff or None,
            "data_differences": self.data_differences,
            "next_step": self.next_step or None,
        }
