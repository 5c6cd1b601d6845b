"""Which classes of two datasets are one finding: the same words, or words that radiologists use for the same thing.

Only what means the same is here. What is wider (`Nodule/Mass`, `Lung Opacity` for `Pneumonia`) is another class, and
whoever wants it joined says so.
"""

from collections.abc import Mapping, Sequence

from genmed.ground.errors import RequestError
from genmed.records.config import suggest

SYNONYMS = (
    {"effusion", "pleural effusion"},
    {"pleural thickening", "pleural other thickening"},
    {"fibrosis", "pulmonary fibrosis", "lung fibrosis"},
    {"edema", "oedema", "pulmonary edema", "pulmonary oedema"},
    {"mass", "lung mass"},
    {"nodule", "lung nodule"},
    {"cardiomegaly", "enlarged heart", "cardiac enlargement"},
    {"hernia", "hiatal hernia", "hiatus hernia"},
    {"no finding", "normal", "healthy"},
    {"covid", "covid 19", "sars cov 2"},
)
"""Each in plain form: see `_plain`."""


def match_classes(ours: Sequence[str], theirs: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Our class -> theirs, for those that have a match, in our order.

    chosen: pairs that somebody named. Raises RequestError for one of them that is no class, or where two of theirs
    match one of ours.
    """
    for names, known, whose in ((chosen.keys(), ours, "the run's"), (chosen.values(), theirs, "the dataset's")):
        for name in names:
            if name not in known:
                raise RequestError(f"--match names {name!r}, which is no class of {whose}", suggest(name, known))
    found = {}
    for name in ours:
        equal = [chosen[name]] if name in chosen else [other for other in theirs if _are_one(name, other)]
        exact = [other for other in equal if other == name] or equal
        if len(exact) > 1:
            raise RequestError(
                f"{name} may be {' or '.join(exact)} of the other dataset", f"say which: --match '{name}={exact[0]}'"
            )
        if exact:
            found[name] = exact[0]
    return found


def _are_one(first: str, second: str) -> bool:
    one, other = _plain(first), _plain(second)
    return one == other or any({one, other} <= group for group in SYNONYMS)


def _plain(name: str) -> str:
    """Small letters, with spaces for what joins words: `Pleural_Thickening` is `pleural thickening`."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
