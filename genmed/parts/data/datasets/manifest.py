"""A CSV table of your own: a path and labels an image; patient, site, study and split if it knows them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmed.ground.errors import ConfigError, DataError
from genmed.ground.wording import name_some
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import find_truths, mark_cells, mark_named, meaning_of_cells
from genmed.parts.data.layout import SIDES, check_root, match_files
from genmed.parts.data.lists import find_lists
from genmed.parts.data.records import EXCLUSIVE, UNKNOWN, DatasetFacts, Labels, Records, TaskKind, refuse_macro
from genmed.parts.data.tables import (
    COMMAS,
    CONTROL,
    Table,
    check_column,
    check_path,
    check_visible,
    guess_separator,
    is_missing,
    read_table,
    refuse_repeated,
    remove_invisible,
)
from genmed.parts.data.traits import read_traits
from genmed.records.config import Config, suggest

NEEDS = "a CSV table (manifest.csv, or manifest.file) with a column of paths, and columns of labels"
USUAL = {
    "path": ("path", "image", "image_path", "file", "filename", "file_name"),
    "patient": ("patient", "patient_id", "subject", "subject_id"),
    "site": ("site", "source", "hospital"),
    "study": ("study", "study_id"),
    "split": ("split", "set"),
    "sex": ("sex", "gender"),
    "age": ("age",),
    "view": ("view", "view_position", "projection"),
}
"""The names that a column goes by unless the config says another."""
NO_FINDING = "No Finding"
NORMAL = frozenset(("no finding", "no findings", "normal", "healthy"))
"""Names in lists that say that there is no finding, in lower case."""
WHOLE = re.compile(r"\d+(\.0*)?")
NUMBER = re.compile(r"-?\d+(\.\d*)?")
SIGNS = (",", ";", "|", "/", "+", "&")
"""What people write between several names in one cell."""
LONG = 80
"""Characters of a cell from which on it is text and no name."""
MOST_CLASSES = 1000
MANY = 20
"""Rows from which on a class of one image is told of."""


def load_records(root: Path, config: Config) -> Records:
    """Raises DataError, with the line of what is wrong; ConfigError for a column that is not there."""
    check_root(root, NEEDS)
    path = find_table(root, config)
    table = read_table(path, free_text=True)
    if not len(table):
        raise DataError(f"{path} has no rows", f"needed: {NEEDS}")
    column = _find_columns(table, config)
    names = [_to_relative(cell, root, table.at(row)) for row, cell in enumerate(table.columns[column["path"]])]
    refuse_repeated(table, names)
    found = _read_labels(table, column, config)
    refuse_macro(found.classes, str(path), "rename it in the table")
    kept, notes = match_files(root, names, path, config.data.on_mismatch)
    rows = sorted(kept, key=names.__getitem__)
    ids = tuple(names[row] for row in rows)
    return Records(
        ids=ids,
        classes=found.classes,
        labels=found.labels[rows],
        images=ImageFiles(root, ids),
        task=found.task,
        patients=tuple(table.columns[column["patient"]][row] for row in rows) if "patient" in column else (),
        sites=_take(table, column.get("site"), rows, lambda cell: not cell),
        studies=_take(table, column.get("study"), rows, is_missing),
        root=root,
        official=_read_split(table, column.get("split"), rows),
        traits=read_traits(table, column, rows),
        split_origin=f"the column {column.get('split')}",
        notes=(*notes, *found.notes),
    )


def check_layout(root: Path, config: Config) -> None:
    """Raises DataError where the table is missing."""
    check_root(root, NEEDS)
    find_table(root, config)


def find_table(root: Path, config: Config) -> Path:
    """In the data root, else as it is named. Raises DataError."""
    named = Path(config.manifest.file)
    for path in (root / named, named):
        if path.is_file():
            return path
    raise DataError(f"no table {root / named}", "name it with --set manifest.file=TABLE.csv")


def _find_columns(table: Table, config: Config) -> dict[str, str]:
    """Role -> column, for the roles that the table has. Raises ConfigError, DataError."""
    found = {}
    visible = {remove_invisible(name).strip(): name for name in table.columns} | {name: name for name in table.columns}
    for role, usual in USUAL.items():
        chosen = getattr(config.manifest, role)
        if chosen is not None:
            chosen = visible.get(chosen, chosen)
        if chosen is not None and chosen not in table.columns:
            raise ConfigError(
                f"manifest.{role} is {chosen!r}, which is no column of {table.path}", suggest(chosen, [*table.columns])
            )
        by_name = {name.lower(): column for name, column in visible.items()}
        name = chosen or next((by_name[word] for word in usual if word in by_name), None)
        if name:
            check_visible(name, f"{table.path}, line 1")
            check_column(table, name)
            found[role] = name
    if "path" not in found:
        if other := guess_separator([*table.columns]):
            raise DataError(f"{table.path} seems to be separated by {other}", COMMAS)
        raise DataError(
            f"{table.path} has no column of paths; it has {', '.join(table.columns)}",
            f"call it {USUAL['path'][0]}, or name it with --set manifest.path=COLUMN",
        )
    return found


def _to_relative(cell: str, root: Path, where: str) -> str:
    """The path from the root; one that is given whole must lie in it."""
    if cell.startswith("/"):
        inside = f"{root.absolute()}/"
        return check_path(cell.removeprefix(inside), where)
    return check_path(cell, where)


@dataclass(frozen=True)
class _Found:
    """What the columns of labels say."""

    classes: tuple[str, ...]
    labels: Labels
    """(rows, classes)"""
    task: TaskKind
    notes: tuple[str, ...] = ()


def _read_labels(table: Table, column: dict[str, str], config: Config) -> _Found:
    """Raises ConfigError for a column that is not there; DataError, with the line, for a cell that is no label."""
    chosen = config.manifest.labels
    for name in chosen:
        if name not in table.columns:
            for hidden in (column for column in table.columns if remove_invisible(column).strip() == name):
                check_visible(hidden, f"{table.path}, line 1")
            raise ConfigError(
                f"manifest.labels names {name!r}, which is no column of {table.path}", suggest(name, [*table.columns])
            )
    names = chosen or tuple(name for name in table.columns if name not in column.values())
    if not names:
        raise DataError(f"{table.path} has no column of labels", "add one, or name it with --set manifest.labels=[...]")
    for name in names:
        check_visible(name, f"{table.path}, line 1")
    numbers = meaning_of_cells(config.labels, "").keys()
    single = len(names) == 1
    truths = {name: find_truths(table.columns[name], numbers, sure=bool(chosen) and not single) for name in names}
    if single and config.labels.task in EXCLUSIVE:
        truths = {names[0]: {}}
    wordy = [name for name in names if not truths[name] and not _mostly(numbers, table.columns[name])]
    if single and not truths[names[0]] and (wordy or _has_grades(table.columns[names[0]], numbers)):
        return _read_words(table, names[0], config)
    if wordy and not chosen:
        raise _refuse_unknown(table, wordy, numbers, column, names)
    cells = {name: table.columns[name] for name in names}
    labels = mark_cells(table, cells, lambda label: {**meaning_of_cells(config.labels, label), **truths[label]})
    for name in names:
        _refuse_minus_one(table, name, config)
    return _Found(names, labels, "binary" if single else "multi-label")


def _refuse_minus_one(table: Table, name: str, config: Config) -> None:
    """Raise DataError for a column of 1 and -1 alone: -1 may be negative there, which only the user knows."""
    policy, cells = config.labels.uncertain, table.columns[name]
    said = (
        name in policy or policy.get("default", "ignore") != "ignore"
        if isinstance(policy, dict)
        else policy != "ignore"
    )
    if not said and {cell.removesuffix(".0") for cell in set(cells)} == {"1", "-1"}:
        row = next(row for row, cell in enumerate(cells) if cell.startswith("-"))
        key = name if re.fullmatch(r"[\w /-]+", name) else f'"{name}"'
        zeros, ignore = (f"--set 'labels.uncertain={{{key}: {word}}}'" for word in ("zeros", "ignore"))
        raise DataError(
            f"{table.at(row)}: {name} holds only 1 and -1, so that -1 may be negative or uncertain",
            f"say which: {zeros} if it is negative, {ignore} if it is uncertain",
        )


def _mostly(numbers: Collection[str], cells: Sequence[str]) -> bool:
    """Whether at least half of the cells that hold anything hold labels: then the others are mistakes."""
    given = [cell for cell in cells if cell]
    return 2 * sum(cell in numbers for cell in given) >= len(given)


def _has_grades(cells: Sequence[str], numbers: Collection[str]) -> bool:
    """Whether what is no label is a number: 0, 1, 2, 3 are classes, 0, 1 and a letter are labels with a mistake."""
    others = set(cells) - set(numbers)
    return all(map(NUMBER.fullmatch, others)) and any(map(WHOLE.fullmatch, others))


def _refuse_unknown(
    table: Table, wordy: Sequence[str], numbers: Collection[str], column: dict[str, str], names: Sequence[str]
) -> DataError:
    """Columns that nobody named, and that hold no labels: a patient's number, an age, a remark, names of classes."""
    by_variety = sorted(wordy, key=lambda name: -len(set(table.columns[name])))  # a patient's number varies most
    strange, cells = by_variety[0], table.columns[by_variety[0]]
    truths = {cell for cell in set(cells) if find_truths([cell], numbers, sure=True)}
    unknown = [row for row, cell in enumerate(cells) if cell and cell not in numbers]
    slips = [row for row in unknown if cells[row] not in truths]
    if 2 * len(slips) < len(unknown) and max(map(len, truths)) > 1:  # a column of Yes and No with a mistake
        known = ", ".join(sorted(truths, reverse=True))
        return DataError(
            f"{table.at(slips[0])}: {strange} is {cells[slips[0]]!r}, which is no label",
            f"known, besides 1, 0, -1 and nothing: {known}",
        )
    row = unknown[0]
    labelled = [name for name in names if name not in wordy] or by_variety[1:][-1:]
    leave_out = f"--set 'manifest.labels=[{', '.join(labelled)}]' to leave it aside"
    if text := next((cell for cell in cells if len(cell) > LONG or CONTROL.search(cell)), ""):
        short = f"{text[:LONG]!r}{'...' if len(text) > LONG else ''}"
        return DataError(f"{table.at(cells.index(text))}: {strange} is text, {short}, and no label", leave_out)
    ways = [f"--set manifest.{role}={_quote(strange)}" for role in ("patient", "site", "study") if role not in column]
    if labelled:
        ways.append(f"or {leave_out}")
    return DataError(
        f"{table.at(row)}: {strange} is {cells[row]!r}, which is no label", f"say what it is: {', '.join(ways)}"
    )


def _quote(name: str) -> str:
    return name if name.isidentifier() else f"'{name}'"


def _read_words(table: Table, name: str, config: Config) -> _Found:
    """One column with the names of classes: one each makes classes that exclude each other.

    Raises DataError for an empty cell among such classes, for two names that are spelt nearly alike, and for names that
    seem to be several.
    """
    check_column(table, name)
    cells, delimiter = table.columns[name], config.manifest.delimiter
    cells = ["" if cell.lower() in ("nan", "<na>") else cell for cell in cells]
    one_each = config.labels.task in EXCLUSIVE
    lists = find_lists(table, name, cells)
    parts: Parts = lists or {
        cell: [part.strip() for part in cell.split(delimiter)] if delimiter else [cell] for cell in set(cells)
    }
    nothing = {"", *(() if one_each else (NO_FINDING,))}
    if lists and not one_each:
        nothing |= {part for named in parts.values() for part in named if part.lower() in NORMAL}
    parts, order, notes = _name_grades(name, parts)
    unknown = [row for row, cell in enumerate(cells) if not cell] if config.labels.blank == "ignore" else []
    if unknown:
        del parts[""]
    classes = tuple(sorted({part for named in parts.values() for part in named} - nothing, key=order))
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{table.path} names {len(classes):,} classes", "choose the column with manifest.labels")
    if not classes:
        raise DataError(f"{table.path} names no class", "choose the columns of labels with manifest.labels")
    _refuse_alike(table, name, cells, parts)
    single = not lists and all(len(named) == 1 for named in parts.values())
    notes += [] if one_each else _note_combined(table, name, cells, classes, refuse=single)
    joined = {cell: "\0".join(named) for cell, named in parts.items()}
    labels = mark_named(
        table, [joined.get(cell, "") for cell in cells], classes, separator="\0", nothing=tuple(nothing)
    )
    labels[unknown] = UNKNOWN
    none = next((word for word in (NO_FINDING, "") if word in nothing and word in parts), None)
    if single and none == "" and len(classes) > 1 and config.labels.task != "multi-label":
        raise DataError(
            f"{table.at(cells.index(''))}: no {name}, where each other row names one class",
            "fill it in; or --set labels.blank=ignore if nobody knows, --set labels.task=multi-label if none is there",
        )
    task: TaskKind = "multi-class" if single and none is None and len(classes) > 1 else "multi-label"
    if single and none:
        notes.append(f"{NO_FINDING} in {name} is none of the classes: the task is {task}")
    if lists and (words := sorted(nothing & {part for named in parts.values() for part in named if part})):
        notes.append(f"{name} holds lists, in which {' and '.join(words)} means no finding: the task is {task}")
    if len(table) >= MANY and (once := [classes[at] for at in np.flatnonzero((labels == 1).sum(0) == 1)]):
        notes.append(f"Named in one row alone, perhaps a slip: {', '.join(once[:5])}{', ...' if len(once) > 5 else ''}")
    return _Found(classes, labels, task, tuple(notes))


Parts = Mapping[str, Sequence[str]]
"""Cell -> the names in it."""


def _name_grades(name: str, parts: Parts) -> tuple[dict[str, Sequence[str]], Callable[[str], Any], list[str]]:
    """Whole numbers written as 2.0 as 2, the order of classes, and notes on numbers that may be no grades."""
    numbers = {part for named in parts.values() for part in named} - {""}
    if not all(map(NUMBER.fullmatch, numbers)):
        return dict(parts), str, []
    notes: list[str] = []
    order: Callable[[str], Any] = str
    if fractions := sorted(number for number in numbers if not WHOLE.fullmatch(number.removeprefix("-"))):
        notes.append(f"{name} holds fractions ({name_some(fractions)}): each number is a class")
    elif any("." in number for number in numbers):
        parts = {cell: [part and str(int(part.partition(".")[0])) for part in named] for cell, named in parts.items()}
        order = int
    if negative := sorted(number for number in numbers if number.startswith("-")):
        notes.append(
            f"{negative[0]} in {name} is a class of its own; leave the cell empty where nobody knows the class"
        )
    return dict(parts), order, notes


def _note_combined(table: Table, name: str, cells: Sequence[str], classes: Sequence[str], refuse: bool) -> list[str]:
    """A note on names such as `mass, nodule`, some part of which is in another name, too.

    refuse: whether a name all parts of which are classes raises DataError, because each cell was read as one class.
    """
    notes = []
    for sign in SIGNS:
        combined = {word: [part.strip() for part in word.split(sign)] for word in classes if sign in word}
        way = f"--set \"manifest.delimiter='{sign}'\""
        for word, named in combined.items():
            if refuse and set(named) <= set(classes):
                raise DataError(
                    f"{table.at(cells.index(word))}: {name} is {word!r}, and {' and '.join(named)} are classes, too",
                    f"several classes in one cell: {way}; one class a cell: --set labels.task=multi-class",
                )
        often = Counter(part for named in (*combined.values(), *([word] for word in classes)) for part in set(named))
        if shared := [word for word, named in combined.items() if any(often[part] > 1 for part in named)]:
            notes.append(
                f"{name} has names with {sign!r} ({name_some(shared)}), each a class of its own; if not: {way}"
            )
    return notes


def _refuse_alike(table: Table, name: str, cells: Sequence[str], parts: Parts) -> None:
    spelt: dict[str, set[str]] = defaultdict(set)
    for part in {part for named in parts.values() for part in named}:
        key = remove_invisible(unicodedata.normalize("NFC", part)).strip().casefold()
        spelt[re.sub(r"\.0*$", "", part) if NUMBER.fullmatch(part) else key].add(part)
    for alike in (sorted(spelling) for spelling in spelt.values() if len(spelling) > 1):
        rows = {part: [row for row, cell in enumerate(cells) if part in parts.get(cell, ())] for part in alike}
        rare, usual = sorted(alike, key=lambda part: len(rows[part]))[:: len(alike) - 1]
        show = repr if rare.casefold() == usual.casefold() or rare.isascii() else ascii  # ascii shows what nobody sees
        raise DataError(
            f"{table.at(rows[rare][0])}: {name} is {show(rare)}, elsewhere {show(usual)}", "write one class in one way"
        )


def _take(table: Table, column: str | None, rows: Sequence[int], missing: Callable[[str], bool]) -> tuple[str, ...]:
    """The cells of the rows. Raises DataError, with the line, for one that is missing."""
    if column is None:
        return ()
    cells = table.columns[column]
    absent = {cell for cell in set(cells) if missing(cell)}
    for row in rows if absent else ():
        if cells[row] in absent:
            raise DataError(f"{table.at(row)}: no {column}", "fill it in for each image, or remove the column")
    return tuple(cells[row] for row in rows)


def _read_split(table: Table, column: str | None, rows: Sequence[int]) -> tuple[str, ...]:
    if column is None:
        return ()
    cells = [cell.lower() for cell in table.columns[column]]
    for row in rows:
        if cells[row] not in SIDES:
            raise DataError(
                f"{table.at(row)}: {column} is {table.columns[column][row]!r}",
                "it must be train, val or test; rename or remove the column if it is something else",
            )
    sides = [SIDES[cells[row]] for row in rows]
    if not {"train", "test"} <= set(sides):
        raise DataError(
            f"{table.path} has no image with {column} {'test' if 'train' in sides else 'train'}",
            "a split needs train and test; or choose --set data.split=patient and leave the column out",
        )
    undivided = "train" if "val" in sides else "train_val"
    return tuple(undivided if side == "train" else side for side in sides)


FACTS = DatasetFacts(
    name="manifest",
    title="A CSV table of your own",
    load_records=load_records,
    needs=NEEDS,
    licence="yours to know",
    citation="",
    defaults={"data.image_size": 224, "training.epochs": 10},
    check_layout=check_layout,
)
