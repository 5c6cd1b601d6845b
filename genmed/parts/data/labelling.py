"""From the words and numbers of tables to labels: 1 there, 0 not there, -1 unknown."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.records import EXCLUSIVE, UNKNOWN, Labels, Records, TaskKind
from genmed.parts.data.tables import Table
from genmed.records.config import suggest
from genmed.records.config.sections import Labels as LabelsConfig


def mark_named(
    table: Table, cells: Sequence[str], classes: Sequence[str], *, separator: str = "|", nothing: Sequence[str] = ()
) -> Labels:
    """(N, L) from cells that name the classes that are there. Raises DataError with the line of an unknown name.

    nothing: words that say that there is none.
    """
    column = {name: position for position, name in enumerate(classes)}

    def parse(cell: str, row: int) -> list[int]:
        marks = [0] * len(classes)
        for part in cell.split(separator):
            name = part.strip()
            if name in column:
                marks[column[name]] = 1
            elif name not in nothing:
                raise DataError(f"{table.at(row)}: unknown class {name!r}", suggest(name, [*classes, *nothing]))
        return marks

    first = dict(zip(reversed(cells), range(len(cells) - 1, -1, -1), strict=True))
    numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}  # each text is parsed once
    parsed = np.array([parse(cell, first[cell]) for cell in numbers], dtype=np.int8).reshape(-1, len(classes))
    return parsed[np.fromiter(map(numbers.__getitem__, cells), dtype=np.int64, count=len(cells))]


def mark_cells(
    table: Table, columns: Mapping[str, Sequence[str]], meaning: Callable[[str], Mapping[str, int]]
) -> Labels:
    """(N, L) from one column a class. meaning: class -> the label of each text that its cells may hold.

    Raises DataError with the line of a text that means nothing.
    """
    marked = np.empty((len(table), len(columns)), dtype=np.int8)
    for at, (name, cells) in enumerate(columns.items()):
        means = meaning(name)
        code = {text: label & 0xFF for text, label in means.items()}
        try:
            marked[:, at] = np.frombuffer(bytes(map(code.__getitem__, cells)), dtype=np.int8)
        except KeyError:
            row = next(row for row, cell in enumerate(cells) if cell not in means)
            raise DataError(
                f"{table.at(row)}: {name} is {cells[row]!r}, which is no label", f"known: {_list_spellings(means)}"
            ) from None
    return marked


def _list_spellings(means: Mapping[str, int]) -> str:
    """`1, 0, -1 or nothing`: those that people write."""
    words = [text for text in means if text and not text.endswith(".0") and text.lower() != "nan"]
    return ", ".join(words) + (" or nothing" if "" in means else "")


def meaning_of_cells(config: LabelsConfig, name: str) -> dict[str, int]:
    """What the cells of a class may hold, and what it means: CheXpert's 1, 0, -1 and nothing."""
    policy = config.uncertain
    chosen = policy.get(name, policy.get("default", "ignore")) if isinstance(policy, dict) else policy
    uncertain = {"ones": 1, "zeros": 0, "ignore": UNKNOWN}[chosen]
    blank = {"negative": 0, "ignore": UNKNOWN}[config.blank]
    means = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": uncertain, "-1.0": uncertain}
    return {**means, "": blank, "nan": blank, "NaN": blank}


TRUTHS = ({"true": 1, "t": 1, "false": 0, "f": 0}, {"yes": 1, "y": 1, "no": 0, "n": 0})
"""Words for 1 and 0 that go together, in lower case."""


def find_truths(cells: Sequence[str], numbers: Collection[str], *, sure: bool) -> dict[str, int]:
    """The label of each word in a column of True and False, or of Yes and No; empty for any other column.

    numbers: what the column may hold besides. sure: whether the column is known to hold labels. If it is not, single
    letters are such words only where both occur: a column of F alone may be a sex, one of N alone a name.
    """
    words = {cell: cell.lower() for cell in set(cells).difference(numbers)}
    found = set(words.values())
    for truth in TRUTHS:
        if found and found <= truth.keys() and (sure or len(found) > 1 or max(map(len, found)) > 1):
            return {cell: truth[word] for cell, word in words.items()}
    return {}


def one_of(numbers: Sequence[int] | np.ndarray, count: int) -> Labels:
    """(N, count): the 1 stands in the column of each number."""
    codes = np.asarray(numbers, dtype=np.int64)
    columns = np.arange(count)
    return np.where(codes[:, None] == columns, 1, 0).astype(np.int8)


def apply_choices(records: Records, config: LabelsConfig) -> Records:
    """The records with the task and the classes that the config chooses. Raises ConfigError."""
    _check_names(config, records)
    if config.task == "ordinal" and records.task == "multi-class" and not config.classes:
        raise ConfigError(
            f"labels.task is ordinal, but nobody says in which order {', '.join(records.classes[:4])} stand",
            "name all classes from the lowest to the highest, --set labels.classes=[...]",
        )
    if config.classes:
        chosen = [records.classes.index(name) for name in config.classes]
        records = replace(records, classes=config.classes, labels=records.labels[:, chosen])
    if config.task != "auto" and config.task != records.task:
        records = _as_task(records, config.task)
    return records


def _check_names(config: LabelsConfig, records: Records) -> None:
    named = [name for name in config.uncertain if name != "default"] if isinstance(config.uncertain, dict) else []
    for key, names in (("labels.uncertain", named), ("labels.classes", config.classes)):
        for name in names:
            if name not in records.classes:
                raise ConfigError(f"{key} names {name!r}, which is no class", suggest(name, records.classes))
    exclusive = records.task not in ("multi-label", "binary")
    if config.classes and exclusive and set(config.classes) != set(records.classes):
        missing = next(name for name in records.classes if name not in config.classes)
        raise ConfigError(
            f"labels.classes leaves out {missing!r}, and each image of {records.task} data is of one class",
            "name all classes, in the order that you mean",
        )
    if len(set(config.classes)) < len(config.classes):
        raise ConfigError(f"labels.classes names a class twice: {', '.join(config.classes)}")


def _as_task(records: Records, task: TaskKind) -> Records:
    if {records.task, task} <= {*EXCLUSIVE} or (task == "binary" and len(records.classes) == 1):
        return replace(records, task=task)
    if task == "multi-label" and records.task == "multi-class":  # each class by itself, though one excludes the others
        return replace(records, task=task)
    if task == "binary" and records.task == "multi-class" and len(records.classes) == 2:  # the second is what is scored
        return replace(records, task=task, classes=records.classes[1:], labels=records.labels[:, 1:])
    known = (records.labels != UNKNOWN).any(1)
    if task in EXCLUSIVE and records.task == "multi-label" and ((records.labels == 1).sum(1) == known).all():
        return replace(records, task=task)
    raise ConfigError(
        f"labels.task is {task}, but the data are {records.task} with {len(records.classes)} classes",
        "leave it out, or choose what fits",
    )
