"""The last verification of a run: as keys for programs, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder


def read_last(folder: RunFolder) -> dict[str, Any] | None:
    """As `describe_last`; None for a run that was never verified, or whose verifications.jsonl is damaged."""
    try:
        lines = folder.read_verifications()
    except RecordError:
        return None
    return describe_last(lines[-1]) if lines else None


def describe_last(report: Mapping[str, Any]) -> dict[str, Any]:
    """The keys under `verification` in `--json`. report: a line of verifications.jsonl.

    An audit of some segments has its own words as verdict (`3 of 40 segments identical`), and says how many.
    """
    segments = report["segments"]
    checked = segments and {"checked": len(segments["checked"]), "total": segments["total"]}
    names = ("verdict", "created", "steps_compared", "steps_total")
    return {**{name: report[name] for name in names}, "segments": checked or None}


def format_last(last: Mapping[str, Any] | None) -> str:
    """`identical on 2026-12-01, 210 of 210 steps`, the day by the local clock; `not yet`."""
    if last is None:
        return "not yet"
    day = f"{datetime.fromisoformat(last['created']).astimezone():%Y-%m-%d}"
    return f"{last['verdict']} on {day}, {last['steps_compared']:,} of {last['steps_total']:,} steps"


def shorten_verdict(last: Mapping[str, Any] | None) -> str:
    """For a column of a table: `identical`, `3/40 segments` of an audit, `-`."""
    if last is None:
        return "-"
    segments, verdict = last["segments"], str(last["verdict"])
    if verdict.endswith("segments identical") and segments:
        return f"{segments['checked']}/{segments['total']} segments"
    return verdict
