"""COVIDx in its releases as lists: one line an image, `patient filename label source`, without a header."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import one_of
from genmed.parts.data.layout import check_root, match_files, wrong_layout
from genmed.parts.data.records import DatasetFacts, Records, TaskKind
from genmed.parts.data.tables import check_path, check_plain, is_missing, read_text
from genmed.records.config import Config

TITLE = "COVIDx"
NEEDS = "train*.txt and test*.txt, one of each (and val*.txt), with the images in train/, test/ (and val/)"
KINDS: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("negative", "positive"),
    "multi-class": ("normal", "pneumonia", "COVID-19"),
}
"""The labels of the releases, by the kind of task that they make."""


def load_records(root: Path, config: Config) -> Records:
    """Reads the lists of all sides. Raises DataError."""
    lists = _find_lists(root)
    rows = [row for side, path in lists.items() for row in _read(path, side)]
    rows.sort()
    names = [name for name, *_ in rows]
    for one, other in itertools.pairwise(rows):
        if one[0] == other[0]:
            raise DataError(f"{other[4]}: {other[0]} is listed a second time", "each image has one line")
    kept, notes = match_files(root, names, lists["train"], config.data.on_mismatch)
    rows = [rows[row] for row in kept]
    kind = _choose_kind([row[2] for row in rows], lists)
    words = KINDS[kind]
    codes = [words.index(row[2]) for row in rows]
    undivided = "train" if "val" in lists else "train_val"
    return Records(
        ids=tuple(row[0] for row in rows),
        classes=("COVID-19",) if kind == "binary" else words,
        labels=np.array(codes, dtype=np.int8)[:, None] if kind == "binary" else one_of(codes, len(words)),
        images=ImageFiles(root, tuple(row[0] for row in rows)),
        task=kind,
        # Sources number their patients each by itself.
        patients=tuple("" if is_missing(row[1]) else f"{row[3]}/{row[1]}" for row in rows),
        sites=tuple(row[3] for row in rows),
        root=root,
        official=tuple(undivided if side == "train" else side for side in (row[0].split("/")[0] for row in rows)),
        notes=tuple(notes),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the lists are missing."""
    _find_lists(root)


def _find_lists(root: Path) -> dict[str, Path]:
    check_root(root, NEEDS)
    lists: dict[str, Path] = {}
    for side in ("train", "val", "test"):
        found = sorted(
            path for path in root.glob(f"{side}*.txt") if path.is_file() and not path.name.endswith("_list.txt")
        )
        if len(found) > 1:
            raise DataError(
                f"{root} has {len(found)} lists for {side}: {', '.join(path.name for path in found)}",
                "keep the one of the release that you mean",
            )
        if found:
            lists[side] = found[0]
    if not {"train", "test"} <= lists.keys():
        raise wrong_layout(root, TITLE, NEEDS)
    return lists


def _read(path: Path, side: str) -> list[tuple[str, str, str, str, str]]:
    """(image's path from the root, patient, label, source, where it stands) of each line."""
    rows = []
    for number, line in enumerate(io.StringIO(read_text(path), newline=None), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) < 4:
            raise DataError(f"{where}: {len(words)} words, where there should be patient, filename, label and source")
        patient, *name, label, source = (check_plain(word, where) for word in words)  # some names have a space
        rows.append((f"{side}/{check_path(' '.join(name), where)}", patient, label, source, where))
        if not any(label in known for known in KINDS.values()):
            raise DataError(f"{where}: unknown label {label!r}", f"known: {', '.join(sum(KINDS.values(), ()))}")
    return rows


def _choose_kind(found: Sequence[str], lists: dict[str, Path]) -> TaskKind:
    for kind, words in KINDS.items():
        if set(found) <= set(words):
            return kind
    named = ", ".join(path.name for path in lists.values())
    raise DataError(
        f"the lists mix the labels of two releases: {', '.join(sorted(set(found)))}", f"see {named}: keep those of one"
    )


FACTS = DatasetFacts(
    name="covidx",
    title="COVIDx (all releases as lists): radiographs of many sources, COVID-19 or not, or three classes",
    load_records=load_records,
    needs=NEEDS,
    licence="of each source its own",
    citation="Wang, Lin and Wong, COVID-Net, Scientific Reports 2020; Wu et al., COVIDx CXR-4, 2023",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
    sources=("rsna",),
    lineage="part of its images are RSNA's, which are NIH's; others are of public COVID-19 collections",
)
