"""A run's figures above those that were published for its dataset."""

from collections.abc import Callable, Mapping
from typing import Any

Benchmark = Mapping[str, Any]
"""As a document of `evaluations/` has it."""
COLUMNS = ("AUC", "accuracy")


def list_figures(benchmark: Benchmark, show: Callable[[Mapping[str, Any]], str]) -> list[tuple[str, str, str]]:
    """(what, AUC, accuracy) of each of the run's states, then of what was published. show: an estimate as a text."""
    rows = [(_name_row(row), show(row["auc"]), show(row["acc"])) for row in benchmark["rows"]]
    published = benchmark["published"]
    return [*rows, (f"published, {benchmark['method']}", f"{published['auc']:.3f}", f"{published['acc']:.3f}")]


def _name_row(row: Mapping[str, Any]) -> str:
    return f"this run, {row['state']} epoch ({row['epoch']})"


def say_protocol(benchmark: Benchmark) -> str:
    """Each key of the protocol, and each count of images, in which the run departs from it."""
    departures = benchmark["departures"]
    told = [f"{entry['key']} {_say(entry['run'])}, not {_say(entry['protocol'])}" for entry in departures]
    return (
        f"otherwise than published: {'; '.join(told)}"
        if told
        else "as published, in all that the config and the counts of images say"
    )


def _say(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
