"""Which run a person means by RUN: a name, an id, a unique prefix of either, `latest` or `latest~1`."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from genmed.ground.errors import RunNotFoundError

LATEST = re.compile(r"latest(?:~([0-9]+))?")
MAX_CANDIDATES = 10


class RunName(NamedTuple):
    """What a run goes by."""

    id: str
    name: str
    hidden: bool


def choose(reference: str, runs: Sequence[RunName]) -> str:
    """The id of the one run that is meant.

    runs: newest first. `latest~N` counts back among the runs that are not hidden. A whole name or id wins over
    prefixes. Raises RunNotFoundError if no run fits, or more than one: another run than asked is never chosen.
    """
    if match := LATEST.fullmatch(reference):
        return _count_back(reference, int(match[1] or 0), [run for run in runs if not run.hidden])
    fitting = [run for run in runs if reference in (run.id, run.name)]
    if not fitting and reference:
        fitting = [run for run in runs if run.id.startswith(reference) or run.name.startswith(reference)]
    if not fitting:
        raise RunNotFoundError(f"no run goes by {reference!r}", _suggest(reference, runs))
    if len(fitting) > 1:
        raise RunNotFoundError(f"{reference!r} fits {len(fitting)} runs", f"which one: {_enumerate(fitting)}?")
    return fitting[0].id


def _count_back(reference: str, back: int, runs: Sequence[RunName]) -> str:
    if back >= len(runs):
        count = {0: "no runs", 1: "1 run"}.get(len(runs), f"{len(runs)} runs")
        raise RunNotFoundError(f"there is no run {reference}: the registry lists {count}")
    return runs[back].id


def _suggest(reference: str, runs: Sequence[RunName]) -> str:
    if not runs:
        return "the registry holds no runs"
    # What was typed is mostly the beginning of a name: it is compared with beginnings, of equal ones the newest run's.
    length = len(reference) + 1
    beginnings = {whole[:length]: whole for run in reversed(runs) for whole in (run.name, run.id)}
    near = [beginnings[beginning] for beginning in difflib.get_close_matches(reference, beginnings, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else "`genmed list` shows the runs"


def _enumerate(runs: Sequence[RunName]) -> str:
    shown = [run.name if run.id in run.name else f"{run.name} ({run.id})" for run in runs[:MAX_CANDIDATES]]
    rest = len(runs) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
