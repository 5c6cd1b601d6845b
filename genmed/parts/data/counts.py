"""How many images, patients and images on a side there are, against how many a dataset's authors say."""

from collections.abc import Sequence
from dataclasses import dataclass

from genmed.ground.wording import say_count
from genmed.parts.data.records import SPLITS, DatasetFacts, Records


@dataclass(frozen=True)
class OfficialCount:
    """How many there are, and how many the dataset's authors say."""

    what: str
    """images, patients; or train, val, test: images on that side."""
    found: int
    official: int


def compare_counts(facts: DatasetFacts, records: Records, sides: Sequence[str], official: bool) -> list[OfficialCount]:
    """Those that can be compared: no patients where nobody knows them, no sides of a split of our own.

    sides: of each image; official: whether they are as the data say.
    """
    found = {"images": len(records)}
    if records.patients:
        found["patients"] = len(set(records.patients))
    if official:
        found |= {side: sides.count(side) for side in SPLITS}
    return [OfficialCount(what, found[what], count) for what, count in facts.counts.items() if what in found]


def tell_wrong_counts(facts: DatasetFacts, counts: Sequence[OfficialCount]) -> list[str]:
    """A line, where one is not as the authors say; else none."""
    wrong = [entry for entry in counts if entry.found != entry.official]
    if not wrong:
        return []
    here = ", ".join(_say(entry.found, entry.what) for entry in wrong)
    there = ", ".join(_say(entry.official, entry.what) for entry in wrong)
    return [f"not the whole {facts.name}: {here}, where its authors count {there}"]


def _say(count: int, what: str) -> str:
    """`1 patient`; a side's as it is called, `25 train`."""
    return f"{count:,} {what}" if what in SPLITS else say_count(count, what.removesuffix("s"))
