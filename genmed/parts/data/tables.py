"""Tables that come with data: comma-separated text from many hands, read whole, told line by line where it is wrong."""

import csv
import io
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath

from genmed.ground.errors import DataError

MAX_BYTES = 2**31
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
COMMAS = "it must have a first line with the names of its columns, and be separated by commas"
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no name of an image, a patient or a class may hold: it would break the lines of messages and of other tables."""

SPACE = re.compile(r"\s")
JOINER = "[\u200c\u200d]"
"""Zero-width joiners belong to the spelling of some languages, between two letters that are not ASCII."""
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff"
    f"\uffa0\U000e0000-\U000e0fff]|(?<![^\x00-\x7f]){JOINER}|{JOINER}(?![^\x00-\x7f])"
)
ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
MISSING = frozenset(("", "nan", "none", "na", "n/a", "#n/a", "<na>", "nat", "null", "unknown"))
"""How programs write that a value is missing, in lower case."""


@dataclass(frozen=True)
class Table:
    """Columns of text, each cell stripped of spaces around it."""

    path: Path
    columns: dict[str, list[str]]
    lines: Sequence[int]
    """The line of the file on which each row ends."""

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, row: int) -> str:
        """`train.csv, line 12`, for a message."""
        return f"{self.path}, line {self.lines[row]}"


def read_table(
    path: Path,
    needed: Sequence[str] = (),
    *,
    owner: str = "",
    keep: Sequence[str] | None = None,
    loose_end: bool = False,
    free_text: bool = False,
) -> Table:
    """A table with a header, in UTF-8 with or without a byte-order mark.

    needed: columns that must be there. keep: columns to return, if present; all unless given. owner: whose table it
    must be, for the message. loose_end: whether rows may be longer than the header. free_text: whether cells may hold
    control characters; `check_column` refuses them where they matter. Raises DataError with file, line and reason:
    not text, another separator, a column missing or twice, a quote that is not closed, a row with more or fewer cells
    than the header, a control character in a cell that is returned.
    """
    hint = f"it must be {owner}'s own table, separated by commas" if owner else COMMAS
    text = read_text(path)
    rows = _split_rows(text, path, hint)
    _, cells_of_header = next(rows, (1, []))
    header = [name.strip() for name in cells_of_header]
    _check_header(path, header, needed, hint)
    width = len(header)
    wanted = [name for name in header if name and (keep is None or name in keep or name in needed)]
    places = [header.index(name) for name in wanted]
    pick = itemgetter(*places, places[0])  # of at least two, so that it gives a tuple
    cells: list[str] = []  # one after the other: rows kept as lists would keep the garbage collector busy
    lines: list[int] = []
    for line, row in rows:
        if len(row) != width:
            if not row:
                continue
            if len(row) < width or (any(row[width:]) and not loose_end):
                raise DataError(f"{path}, line {line}: {len(row)} cells, where the header has {width}", hint)
        cells += pick(row)
        lines.append(line)
    step = len(places) + 1
    columns = {name: cells[place::step] for place, name in enumerate(wanted)}
    if not _is_clean(text):
        columns = {name: _clean(name, column, path, lines, free_text) for name, column in columns.items()}
    return Table(path, columns, lines)


def _split_rows(text: str, path: Path, hint: str) -> Iterator[tuple[int, list[str]]]:
    """Each row's last line and its cells, none of a blank line. Raises DataError."""
    lines = text.split("\n")
    if '"' not in text and max(map(len, lines)) <= csv.field_size_limit():  # what is left of csv then, in half its time
        for number, line in enumerate(lines, 1):
            yield number, line.split(",") if line else []
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # a stray quote would swallow rows
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}", hint) from None


def _is_clean(text: str) -> bool:
    """Whether no cell can hold anything to strip or to refuse: one look at the whole, not one at each column."""
    _, _, body = text.partition("\n")
    one_line_rows = '"' not in text
    return one_line_rows and " " not in body and text.replace("\n", "").isprintable()


def _clean(name: str, cells: list[str], path: Path, lines: Sequence[int], free_text: bool) -> list[str]:
    """A column's cells without spaces around them. Raises DataError where one is no plain text."""
    whole = "".join((name, *cells))
    check_plain(name, f"{path}, line 1")
    if not free_text and CONTROL.search(whole):
        for cell, line in zip(cells, lines, strict=True):
            check_plain(cell.strip(), f"{path}, line {line}")
    return list(map(str.strip, cells)) if SPACE.search(whole) else cells


def read_header(path: Path, needed: Sequence[str], owner: str) -> None:
    """Raises DataError where the first line is not that of the owner's table; nothing else is read."""
    if not is_regular(path):
        raise DataError(f"cannot read {path}: it is not a file")
    try:
        with open(path, "rb") as file:
            line = file.readline(1 << 16).decode("utf-8-sig")
        header = [name.strip() for name in next(csv.reader([line], strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        read_text(path)  # says what is wrong with it
        header = []
    _check_header(path, header, needed, f"it must be {owner}'s own table, separated by commas")


def check_plain(text: str, where: str) -> str:
    """The text, if it is a name that a line can hold. Raises DataError, beginning with `where`."""
    if CONTROL.search(text):
        raise DataError(f"{where}: {text[:80]!a} holds a line break or another character that is not printed")
    return text


def check_column(table: Table, name: str) -> None:
    """Raise DataError, with the line, for a cell of the column that holds a control character."""
    if CONTROL.search("".join(table.columns[name])):
        for row, cell in enumerate(table.columns[name]):
            check_plain(cell, table.at(row))


def is_missing(cell: str) -> bool:
    """Whether a cell says that its value is missing: nothing, nan, None, NA, null and the like, in any case."""
    return cell.strip().lower() in MISSING


def remove_invisible(text: str) -> str:
    """The text without invisible characters, and with plain spaces for all others."""
    return text if text.isascii() else ODD_SPACE.sub(" ", INVISIBLE.sub("", text))


def check_visible(name: str, where: str) -> None:
    """Raise DataError, beginning with `where`, if a column's name has a character that nobody sees."""
    if found := INVISIBLE.search(name) or ODD_SPACE.search(name):
        code = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '').lower()}".strip()
        raise DataError(
            f"{where}: the name of the column {remove_invisible(name).strip()!r} has an invisible character, {code}",
            f"remove it; the name is stored as {name!a}",
        )


Rewriting = Callable[[str], str]
SAME_NAME: dict[str, Rewriting] = {
    "Unicode normalization": lambda text: unicodedata.normalize("NFC", text),
    "invisible characters": remove_invisible,
    "upper and lower case": str.casefold,
}
"""In what two spellings of one name may differ, and what makes them equal."""


def find_alike(names: Sequence[str], rewrite: Rewriting) -> list[list[str]]:
    """Sorted groups of distinct names that `rewrite` makes equal. It is applied once, to all names as lines."""
    keys = rewrite("\n".join(names)).split("\n")
    if len(keys) != len(names) or len(set(keys)) == len(names):  # names of a user's own dataset may hold line breaks
        return []
    groups: dict[str, list[str]] = {}
    for name, key in zip(names, keys, strict=True):
        groups.setdefault(key, []).append(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def check_all_plain(names: Sequence[str], where: str) -> None:
    """The same of many, which costs less than one by one."""
    if not "".join(names).isprintable():  # what is not printable need not be a control character
        for name in names:
            check_plain(name, where)


def is_regular(path: Path | str) -> bool:
    """Whether reading it ends: it is a file, and no pipe or device. Raises OSError where nothing is there."""
    return stat.S_ISREG(os.stat(path).st_mode)


def read_text(path: Path) -> str:
    """UTF-8, with or without a byte-order mark. Raises DataError."""
    try:
        if not (is_regular(path) or path.is_dir()):
            raise DataError(f"cannot read {path}: it is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; a table of 2 GiB is the largest that is read")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        with open(path, "rb") as file:
            wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        raise DataError(
            f"{path} is not text in UTF-8: {'it is UTF-16' if wide else f'{error.reason} at byte {error.start}'}",
            "save it as UTF-8",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if "\0" in text:
        raise DataError(f"{path} is not text: it holds a NUL at character {text.index(chr(0))}")
    return text


def check_path(text: str, where: str) -> str:
    """A path inside of the data root, as in a table, with slashes. Raises DataError, beginning with `where`."""
    name = check_plain(text, where).replace("\\", "/")
    if not name or name.startswith("/") or name[1:2] == ":":
        reason = "no path" if not name else f"{text!r} is not below the data folder"
        raise DataError(f"{where}: {reason}", "paths in tables begin at the data folder")
    if "//" in name or ("." in name and any(part in ("..", ".") for part in name.split("/"))):
        plain = PurePosixPath(name)
        if ".." in plain.parts:
            raise DataError(
                f"{where}: {text!r} leads out of the data folder", "paths in tables begin at the data folder"
            )
        return str(plain)
    return name


def refuse_repeated(table: Table, names: Sequence[str], what: str = "image") -> None:
    """Raises DataError with the line of the first that was there before."""
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"{table.at(row)}: {what} {name} is listed a second time, after line {table.lines[seen[name]]}",
                "each has one row; remove one of the two",
            )
        seen[name] = row


def guess_separator(header: Sequence[str]) -> str | None:
    """What seems to stand between the names instead of commas, in words."""
    return next((word for letter, word in SEPARATORS.items() if len(header) == 1 and letter in header[0]), None)


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str], hint: str) -> None:
    if not any(header):
        raise DataError(f"{path} is empty", hint)
    missing = [name for name in needed if name not in header]
    if missing:
        for name in header:
            if remove_invisible(name).strip() in missing:
                check_visible(name, f"{path}, line 1")
        other = guess_separator(header)
        found = f"it seems to be separated by {other}" if other else f"it begins {','.join(header)[:80]!r}"
        raise DataError(f"{path} lacks the column {' and '.join(map(repr, missing))}; {found}", hint)
    for name in {*needed, *(name for name in header if header.count(name) > 1)}:
        if name and header.count(name) > 1:
            raise DataError(f"{path} has the column {name!r} {header.count(name)} times", hint)
