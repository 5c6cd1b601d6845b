"""What may be chosen of a verification; imported before torch is."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a run is verified."""

    full: bool = False
    """Go on after the first difference."""
    segments: int | None = None
    """So many at random, not the whole run."""
    segment: Sequence[int] = ()
    """These, by their numbers from 1."""
    jobs: int = 1
    """Processes that compute segments beside each other."""
    tolerance: float | None = None
    """How far metrics may lie from the recorded ones, elsewhere; None: as far as other seeds of the config do."""
