"""A folder of images with one folder a class: {train,val,test}/<class>/ or <class>/."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genmed.ground.errors import DataError
from genmed.ground.wording import name_some, say_count
from genmed.parts.data.images import ImageFiles, is_image_file
from genmed.parts.data.labelling import one_of
from genmed.parts.data.layout import HIDDEN, SIDES, check_root, walk, wrong_layout
from genmed.parts.data.records import MACRO, DatasetFacts, Records, refuse_macro
from genmed.parts.data.tables import SAME_NAME, check_plain, find_alike
from genmed.records.config import Config

TITLE = "one folder a class"
NEEDS = "<class>/ with images in it, for each class, or train/<class>/, test/<class>/ (and val/<class>/)"
MOST_CLASSES = 1000
FEW, MANY_CLASSES = 3, 10
"""Folders with fewer images, where there are so many folders, look like patients."""


@dataclass
class _Listing:
    """What lies in the folder of a side; paths are from the root."""

    images: list[tuple[str, str]] = field(default_factory=list)
    """(path, class)."""
    others: list[str] = field(default_factory=list)
    """Files in folders of classes that are no images."""
    without_class: list[str] = field(default_factory=list)
    """Images in no folder of a class."""
    empty: list[str] = field(default_factory=list)
    """Folders of classes without an image."""


def load_records(root: Path, config: Config) -> Records:
    """The classes are the folders' names, sorted. Raises DataError."""
    sides = _find_sides(root)
    listings = [(_list(root, folder), side) for folder, side in sides]
    found = sorted((path, side, name) for listing, side in listings for path, name in listing.images)
    classes = _check_classes(root, found)
    column = {name: position for position, name in enumerate(classes)}
    names = tuple(path for path, _, _ in found)
    undivided = {"train": "train_val"} if "val" not in [side for _, side in sides] else {}
    return Records(
        ids=names,
        classes=classes,
        labels=one_of([column[name] for _, _, name in found], len(classes)),
        images=ImageFiles(root, names),
        task="multi-class",
        root=root,
        official=tuple(undivided.get(side, side) for _, side, _ in found) if len(sides) > 1 else (),
        split_origin="the folders",
        notes=(
            *_note_passed_over([listing for listing, _ in listings]),
            *_note_small_classes(found),
            *_note_alike_classes(classes),
        ),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where there are no folders of classes, or the folder is another dataset's."""
    from genmed.parts.data.datasets import DATASETS  # which are collected of files like this one

    check_root(root, NEEDS)
    for name, facts in DATASETS.items():
        if name in ("folder", "manifest") or facts.check_layout is None:
            continue
        try:
            facts.check_layout(root, config)
        except DataError:
            continue
        raise DataError(f"{root} is in the layout of {name}", f"use --dataset {name}")
    _find_sides(root)


def _find_sides(root: Path) -> list[tuple[str, str]]:
    """(folder, side) of each side; one of no side where the folders of classes lie in the root."""
    check_root(root, NEEDS)
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and _is_shown(entry.name))
    if not folders:
        raise wrong_layout(root, TITLE, NEEDS)
    named = [(name, SIDES[name.lower()]) for name in folders if name.lower() in SIDES]
    if not named:
        return [("", "")]
    others = [name for name in folders if name.lower() not in SIDES]
    sides = [side for _, side in named]
    if others or len(set(sides)) < len(sides) or not {"train", "test"} <= set(sides):
        raise DataError(
            f"{root} holds {', '.join(folders)}: sides of a split must be train and test, with or without val",
            "rename or remove what is no side; or give a table with --dataset manifest",
        )
    return named


def _list(root: Path, folder: str) -> _Listing:
    """All of a side. Raises DataError where it has no images."""
    top = root / folder
    listing = _Listing()
    for entry in sorted(filter(lambda entry: _is_shown(entry.name), top.iterdir())):
        if entry.is_dir():
            _list_class(root, entry, listing)
        elif is_image_file(entry):
            listing.without_class.append(entry.relative_to(root).as_posix())
    if not listing.images:
        raise DataError(f"{top} has no folders of classes with images in them", f"looked for {NEEDS}")
    return listing


def _list_class(root: Path, top: Path, listing: _Listing) -> None:
    before = len(listing.images)
    for inner, files in walk(top):
        place = inner.relative_to(root).as_posix()
        for file in files:
            if is_image_file(inner / file):
                listing.images.append((check_plain(f"{place}/{file}", str(root)), top.name))
            else:
                listing.others.append(f"{place}/{file}")
    if len(listing.images) == before:
        listing.empty.append(top.relative_to(root).as_posix())


def _note_passed_over(listings: Sequence[_Listing]) -> list[str]:
    notes = []
    if empty := [name for listing in listings for name in listing.empty]:
        notes.append(f"No image in class folder{'s' if len(empty) > 1 else ''} {name_some(empty)}")
    if others := [name for listing in listings for name in listing.others]:
        notes.append(f"Left out: {say_count(len(others), 'file')} without the suffix of an image ({name_some(others)})")
    if outside := [name for listing in listings for name in listing.without_class]:
        notes.append(f"Left out: {say_count(len(outside), 'image')} in no class folder ({name_some(outside)})")
    return notes


def _note_small_classes(found: Sequence[tuple[str, str, str]]) -> list[str]:
    """Folders of patients look like many classes with hardly an image each."""
    counts = Counter(name for _, _, name in found)
    small = [name for name, count in counts.items() if count < FEW]
    if len(counts) < MANY_CLASSES or 2 * len(small) < len(counts):
        return []
    return [
        f"{len(small)} of {len(counts)} class folders have one or two images ({name_some(small)}): they look like"
        " patients, not classes; if so, name the class of each image in a table (--dataset manifest)"
    ]


def _note_alike_classes(classes: Sequence[str]) -> list[str]:
    return [
        f"Class folders differ in {difference} alone ({' and '.join(map(ascii, groups[0]))}): each is a class"
        for difference, rewrite in SAME_NAME.items()
        if (groups := find_alike(classes, rewrite))
    ]


def _check_classes(root: Path, found: list[tuple[str, str, str]]) -> tuple[str, ...]:
    classes = sorted({name for _, _, name in found})
    if MACRO in classes:
        path = next(root / path for path, _, name in found if name == MACRO)
        refuse_macro(classes, str(next(folder for folder in path.parents if folder.name == MACRO)), "rename the folder")
    if len(classes) == 1:
        raise DataError(f"{root} holds one class only, {classes[0]!r}", f"looked for {NEEDS}")
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{root} holds {len(classes):,} folders, too many to be classes", f"looked for {NEEDS}")
    learnt = {name for _, side, name in found if side in ("", "train")}
    if strange := [name for name in classes if name not in learnt]:
        raise DataError(f"the class {strange[0]!r} is not among those of train: {', '.join(sorted(learnt))}")
    return tuple(classes)


def _is_shown(name: str) -> bool:
    return not name.startswith(HIDDEN)


FACTS = DatasetFacts(
    name="folder",
    title="A folder of your own, one folder a class",
    load_records=load_records,
    needs=NEEDS,
    licence="yours to know",
    citation="",
    task="multi-class",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
)
