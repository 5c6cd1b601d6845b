"""The last verification of a run: as keys for programs, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder


def read_last(folder: RunFolder, started: datetime) -> dict[str, Any] | None:
    """As `describe_last`; None for a run that was never verified, or whose verifications.jsonl is damaged."""
    try:
        lines = folder.read_verifications()
    except RecordError:
        return None
    return describe_last(lines[-1], started) if lines else None


def describe_last(report: Mapping[str, Any], started: datetime) -> dict[str, Any]:
    """The keys under `verification` in `--json`.

    report: a line of verifications.jsonl. started: when the run was last started or resumed. An audit of some segments
    has its own words as verdict (`3 of 40 segments identical`), and says how many.
    """
    segments = report.get("segments")  # the first versions recorded none
    checked = segments and {"checked": len(segments["checked"]), "total": segments["total"]}
    names = ("verdict", "created", "steps_compared", "steps_total")
    told = {name: report[name] for name in names}
    return {**told, "segments": checked or None, "outdated": is_outdated(report, started)}


def is_outdated(report: Mapping[str, Any], started: datetime) -> bool:
    """Whether the run was resumed after the verification, so that it says nothing of the steps since."""
    return datetime.fromisoformat(report["created"]) < started


def format_last(last: Mapping[str, Any] | None) -> str:
    """`identical on 2026-12-01, 210 of 210 steps`, the day by the local clock; `not yet`."""
    if last is None:
        return "not yet"
    day = f"{datetime.fromisoformat(last['created']).astimezone():%Y-%m-%d}"
    told = f"{last['verdict']} on {day}, {last['steps_compared']:,} of {last['steps_total']:,} steps"
    return f"not since the run was resumed (before: {told})" if last["outdated"] else told


def shorten_verdict(last: Mapping[str, Any] | None) -> str:
    """For a column of a table: `identical`, `3/40 segments` of an audit, `outdated`, `-`."""
    if last is None:
        return "-"
    if last["outdated"]:
        return "outdated"
    segments, verdict = last["segments"], str(last["verdict"])
    if verdict.endswith("segments identical") and segments:
        return f"{segments['checked']}/{segments['total']} segments"
    return verdict
