"""A CSV table of your own: a path and labels an image; patient, site, study and split if it knows them."""

from collections.abc import Sequence
from pathlib import Path

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.labelling import mark_cells, mark_named, meaning_of_cells
from genmed.parts.data.layout import SIDES, check_root, match_files
from genmed.parts.data.records import UNKNOWN, DatasetFacts, Labels, Records, TaskKind
from genmed.parts.data.tables import Table, check_path, read_table, refuse_repeated
from genmed.records.config import Config, suggest

NEEDS = "a CSV table (manifest.csv, or manifest.file) with a column of paths, and columns of labels"
USUAL = {
    "path": ("path", "image", "image_path", "file", "filename", "file_name"),
    "patient": ("patient", "patient_id", "subject", "subject_id"),
    "site": ("site", "source", "hospital"),
    "study": ("study", "study_id"),
    "split": ("split", "set", "fold"),
}
"""The names that a column goes by unless the config says another."""
NOTHING = ("", "No Finding")
MOST_CLASSES = 1000


def load_records(root: Path, config: Config) -> Records:
    """Raises DataError, with the line of what is wrong; ConfigError for a column that is not there."""
    check_root(root, NEEDS)
    path = find_table(root, config)
    table = read_table(path)
    if not len(table):
        raise DataError(f"{path} has no rows", f"needed: {NEEDS}")
    column = _find_columns(table, config)
    names = [_to_relative(cell, root, table.at(row)) for row, cell in enumerate(table.columns[column["path"]])]
    refuse_repeated(table, names)
    classes, labels, task = _read_labels(table, column, config)
    kept, notes = match_files(root, names, path, config.data.on_mismatch)
    rows = sorted(kept, key=names.__getitem__)
    ids = tuple(names[row] for row in rows)
    return Records(
        ids=ids,
        classes=classes,
        labels=labels[rows],
        images=ImageFiles(root, ids),
        task=task,
        patients=_take(table, column.get("patient"), rows),
        sites=_take(table, column.get("site"), rows),
        studies=_take(table, column.get("study"), rows),
        root=root,
        official=_read_split(table, column.get("split"), rows),
        notes=tuple(notes),
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
    for role, usual in USUAL.items():
        chosen = getattr(config.manifest, role)
        if chosen is not None and chosen not in table.columns:
            raise ConfigError(
                f"manifest.{role} is {chosen!r}, which is no column of {table.path}", suggest(chosen, [*table.columns])
            )
        by_name = {name.lower(): name for name in table.columns}
        name = chosen or next((by_name[word] for word in usual if word in by_name), None)
        if name:
            found[role] = name
    if "path" not in found:
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


def _read_labels(table: Table, column: dict[str, str], config: Config) -> tuple[tuple[str, ...], Labels, TaskKind]:
    chosen = config.manifest.labels
    for name in chosen:
        if name not in table.columns:
            raise ConfigError(
                f"manifest.labels names {name!r}, which is no column of {table.path}", suggest(name, [*table.columns])
            )
    names = chosen or tuple(name for name in table.columns if name not in column.values())
    if not names:
        raise DataError(f"{table.path} has no column of labels", "add one, or name it with --set manifest.labels=[...]")
    cells = {name: table.columns[name] for name in names}
    numbers = meaning_of_cells(config.labels, "")
    if len(names) == 1 and not set(cells[names[0]]) <= numbers.keys():
        return _read_words(table, cells[names[0]], config)
    try:
        labels = mark_cells(table, cells, lambda label: meaning_of_cells(config.labels, label))
    except DataError as error:
        more = "" if chosen else "; or choose the columns of labels with --set manifest.labels=[...]"
        raise DataError(error.message, f"{error.hint}{more}") from None
    return names, labels, "binary" if len(names) == 1 else "multi-label"


def _read_words(table: Table, cells: Sequence[str], config: Config) -> tuple[tuple[str, ...], Labels, TaskKind]:
    """One column with the names of classes: one each makes classes that exclude each other."""
    delimiter = config.manifest.delimiter
    unknown = [row for row, cell in enumerate(cells) if not cell] if config.labels.blank == "ignore" else []
    parts = {cell: [part.strip() for part in cell.split(delimiter)] if delimiter else [cell] for cell in set(cells)}
    if unknown:
        del parts[""]
    classes = tuple(sorted({part for named in parts.values() for part in named if part not in NOTHING}))
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{table.path} names {len(classes):,} classes", "choose the column with manifest.labels")
    if not classes:
        raise DataError(f"{table.path} names no class", "choose the columns of labels with manifest.labels")
    labels = mark_named(table, cells, classes, separator=delimiter or "\0", nothing=NOTHING)
    labels[unknown] = UNKNOWN
    exclusive = all(len(named) == 1 for named in parts.values()) and not any(word in parts for word in NOTHING)
    return classes, labels, "multi-class" if exclusive and len(classes) > 1 else "multi-label"


def _take(table: Table, column: str | None, rows: Sequence[int]) -> tuple[str, ...]:
    if column is None:
        return ()
    cells = table.columns[column]
    for row in rows:
        if not cells[row]:
            raise DataError(f"{table.at(row)}: no {column}", "fill it in for each image, or remove the column")
    return tuple(cells[row] for row in rows)


def _read_split(table: Table, column: str | None, rows: Sequence[int]) -> tuple[str, ...]:
    if column is None:
        return ()
    cells = [cell.lower() for cell in table.columns[column]]
    for row in rows:
        if cells[row] not in SIDES:
            raise DataError(
                f"{table.at(row)}: {column} is {table.columns[column][row]!r}", "it must be train, val or test"
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
