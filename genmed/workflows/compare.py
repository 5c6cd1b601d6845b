"""compare: two recorded runs side by side: what differs between them, and where their traces part. Nothing is written.

Only what was recorded is read, so it needs neither the data nor torch, and takes runs of other machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genmed.engine.trace import Divergence, Line, RecordedTrace, find_divergence
from genmed.ground.sealed import read_sealed
from genmed.records.config import Config, flatten
from genmed.records.environment import compare_environments
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.code import RecordedCode
from genmed.workflows.identity import compare_images, read_config, read_images
from genmed.workflows.integrity import check_trace

MOST_IMAGES = 1000
"""Differences between images that are kept; all are counted."""


@dataclass(frozen=True)
class ConfigDifference:
    """A dotted key with two values."""

    key: str
    first: Any
    second: Any
    affects_bits: bool
    """False also for a file of the user's that has but another folder: its content is compared as code."""


@dataclass(frozen=True)
class FileDifference:
    """A source file with two digests; None where a run had no such file."""

    file: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class EnvironmentDifference:
    """A field with two values, and whether it can change the bits of a run on the first run's device."""

    field: str
    first: Any
    second: Any
    changes_bits: bool
    why: str


@dataclass(frozen=True)
class ImageDifference:
    """What differs of which image, e.g. `labels of 00000003_001.png`; an image that only one has is `present` there."""

    what: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class DataDifference:
    """Two data fingerprints, and by which images they differ; by none if the order or the classes are others."""

    first: str
    second: str
    images: Sequence[ImageDifference]
    """The first `MOST_IMAGES`."""
    count: int
    """Of all."""


@dataclass(frozen=True)
class MetricDifference:
    """A final metric with two values; None where it is undefined or the run has no final metrics."""

    name: str
    first: float | None
    second: float | None
    difference: float | None
    """second - first."""


@dataclass(frozen=True)
class Steps:
    """The steps of a trace: those after `start`, up to and with `last`."""

    start: int
    """0 but for a run that continues another."""
    last: int

    @property
    def count(self) -> int:
        return self.last - self.start


@dataclass(frozen=True)
class TraceComparison:
    """How far two traces are equal."""

    first: Steps | None
    """None: the run has no trace."""
    second: Steps | None
    equal: int | None
    """Steps up to the first divergence, from the first step that both have; None where one has no trace."""
    first_divergence: Divergence | None
    """With field `initial` if the states before the first common step differ."""

    @property
    def whole(self) -> bool:
        """Whether all steps of both are the same."""
        return self.first is not None and self.first == self.second and self.equal == self.first.count

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [steps and steps.count for steps in (self.first, self.second)],
            "equal": self.equal,
            "first_divergence": self.first_divergence and asdict(self.first_divergence),
        }


@dataclass(frozen=True)
class Comparison:
    """All that differs between two runs; empty parts are equal."""

    first: RunDocument
    second: RunDocument
    config: Sequence[ConfigDifference]
    code: Sequence[FileDifference]
    environment: Sequence[EnvironmentDifference]
    data: DataDifference | None
    metrics: Sequence[MetricDifference]
    trace: TraceComparison

    @property
    def identical(self) -> bool:
        """Whether both runs are complete and all their steps equal, whatever else differs."""
        return self.trace.whole and self.first.true_status == self.second.true_status == "completed"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "runs": [self.first.name, self.second.name],
            "identical": self.identical,
            "config": [asdict(entry) for entry in self.config],
            "code": [asdict(entry) for entry in self.code],
            "environment": [asdict(entry) for entry in self.environment],
            "data": self.data and asdict(self.data),
            "metrics": [asdict(entry) for entry in self.metrics],
            "trace": self.trace.to_json(),
        }


def compare(first: RunFolder, second: RunFolder) -> Comparison:
    """Compares what two runs recorded; one that is under way, as far as it came.

    Raises RecordError or ConfigError where a file that is needed is missing, damaged or edited.
    """
    documents = first.read(), second.read()
    configs = read_config(first, documents[0]), read_config(second, documents[1])
    environments = read_sealed(first.environment_path), read_sealed(second.environment_path)
    codes = [RecordedCode.of(environment).all_files for environment in environments]
    for environment in environments:
        del environment["code"]
    return Comparison(
        first=documents[0],
        second=documents[1],
        config=_compare_configs(*configs),
        code=[FileDifference(*entry) for entry in _list_differences(*codes)],
        environment=[
            EnvironmentDifference(entry.field, entry.recorded, entry.found, entry.changes_bits, entry.why)
            for entry in compare_environments(*environments, documents[0].device)
        ],
        data=_compare_data(first, documents[0], second, documents[1]),
        metrics=_compare_metrics(documents[0].metrics, documents[1].metrics),
        trace=compare_traces(
            _read_trace(first, documents[0], configs[0]), _read_trace(second, documents[1], configs[1])
        ),
    )


def compare_traces(first: RecordedTrace | None, second: RecordedTrace | None) -> TraceComparison:
    """Step for step, from the first step that both have. None: a run without a trace."""
    if first is None or second is None:
        return TraceComparison(_span(first), _span(second), None, None)
    begin, equal = max(first.start, second.start), 0
    divergence = _compare_beginnings(first, second, begin)
    if divergence is None:
        for step in range(begin + 1, min(first.last, second.last) + 1):
            divergence = _compare_lines(first.line(step), second.line(step))
            if divergence:
                break
            equal += 1
    return TraceComparison(_span(first), _span(second), equal, divergence)


def _span(trace: RecordedTrace | None) -> Steps | None:
    return None if trace is None else Steps(trace.start, trace.last)


def _compare_beginnings(first: RecordedTrace, second: RecordedTrace, begin: int) -> Divergence | None:
    """By the states before the first common step, where both recorded them."""
    states = [_find_state(trace, begin) for trace in (first, second)]
    if None in states or states[0] == states[1]:
        return None
    later = first if first.start == begin else second
    return Divergence(begin, int(later.header.get("start", {}).get("epoch", 0)), "initial")


def _find_state(trace: RecordedTrace, step: int) -> Any:
    """The fingerprint of the state after the step; None where the trace has none."""
    if step == trace.start:
        return trace.header["initial"]
    return trace.line(step).get("state") if step <= trace.last else None


def _compare_lines(first: Line, second: Line) -> Divergence | None:
    """A run's last step records the state even where it ends within an epoch, and a longer run has none there."""
    if ("state" in first) != ("state" in second):
        first, second = ({key: value for key, value in line.items() if key != "state"} for line in (first, second))
    return find_divergence(first, second)


def _read_trace(folder: RunFolder, document: RunDocument, config: Config) -> RecordedTrace | None:
    """None for a run that keeps no trace, or has not begun one. Raises RecordError where one is missing or damaged."""
    recorded = document.trace_digest or folder.trace_path.exists()
    if not recorded and (not config.run.trace or not document.checkpoint_step):
        return None
    return check_trace(folder, document)


def _compare_configs(first: Config, second: Config) -> list[ConfigDifference]:
    bits = first.affecting_bits(), second.affecting_bits()
    return [
        ConfigDifference(key, before, after, bits[0].get(key) != bits[1].get(key))
        for key, before, after in _list_differences(flatten(first), flatten(second))
    ]


def _compare_metrics(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> list[MetricDifference]:
    return [
        MetricDifference(name, before, after, None if before is None or after is None else after - before)
        for name, before, after in _list_differences(first, second)
    ]


def _compare_data(
    first: RunFolder, first_document: RunDocument, second: RunFolder, second_document: RunDocument
) -> DataDifference | None:
    fingerprints = first_document.data_fingerprint, second_document.data_fingerprint
    if fingerprints[0] == fingerprints[1]:
        return None
    found = compare_images(read_images(first), read_images(second))
    images = [ImageDifference(entry.what, entry.recorded, entry.found) for entry in found[:MOST_IMAGES]]
    return DataDifference(*fingerprints, images, len(found))


def _list_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, first, second) of each key whose values differ, in the order of the first; None where it is missing."""
    keys = dict.fromkeys([*first, *second])
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]
