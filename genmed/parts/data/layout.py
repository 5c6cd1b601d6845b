"""What lies under a data root, against what a dataset's table names."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from genmed.ground.errors import DataError
from genmed.ground.wording import say_count
from genmed.parts.data.images import DICOM_SUFFIXES, SUFFIXES
from genmed.parts.data.tables import SAME_NAME, Rewriting, check_all_plain

IMAGES = SUFFIXES + DICOM_SUFFIXES
HIDDEN = (".", "__")
"""Begins the names of files and folders that are passed over, as `__MACOSX`."""
SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "tune", "tuning"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the sides of a split."""


def find_file(root: Path, names: Sequence[str], title: str, needs: str) -> Path:
    """The first of these files that is there. Raises DataError that says what is there instead."""
    check_root(root, needs)
    for name in names:
        if (root / name).is_file():
            return root / name
    raise wrong_layout(root, title, needs)


def check_root(root: Path, needs: str) -> None:
    """Raises DataError where the folder is missing."""
    if not root.is_dir():
        raise DataError(
            f"no data folder {root}", f"put the data there or name their folder with --data-root; needed: {needs}"
        )


def wrong_layout(root: Path, title: str, needs: str) -> DataError:
    """The error that says what is there and what should be."""
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in root.iterdir())
    found = [name.encode("ascii", "backslashreplace").decode() if not name.isprintable() else name for name in names]
    what = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "") if found else "nothing"
    return DataError(f"{root} is not in the layout of {title}: found {what}", f"looked for {needs}")


def list_images(root: Path, folders: Sequence[str], title: str, needs: str) -> dict[str, str]:
    """Name of each image in those of the folders that are there -> its path from the root.

    Raises DataError where there are no images, two of one name, or one whose name no table can hold.
    """
    paths: dict[str, str] = {}
    for folder in folders:
        if (root / folder).is_dir():
            names = [name for name in os.listdir(root / folder) if name.lower().endswith(IMAGES)]
            check_all_plain(names, str(root / folder))
            for name in names:
                if name in paths:
                    raise DataError(
                        f"{name} lies in {root / paths[name].removesuffix('/' + name)} and in {root / folder}",
                        "remove one of the two",
                    )
                paths[name] = f"{folder}/{name}"
    if not paths:
        raise wrong_layout(root, title, needs)
    return paths


def list_stems(root: Path, folder: str, title: str, needs: str) -> dict[str, str]:
    """The images of a folder by their names without the suffix, as some tables name them, like `list_images`."""
    paths: dict[str, str] = {}
    for name, path in sorted(list_images(root, [folder], title, needs).items()):
        stem = name.rpartition(".")[0]
        if stem in paths:
            raise DataError(f"{root / paths[stem]} and {name} are of one name", "remove one of the two")
        paths[stem] = path
    return paths


def match(
    named: Sequence[str], present: Mapping[str, str], table: Path, on_mismatch: str, root: Path | None = None
) -> tuple[list[str], list[str]]:
    """The images that are both named in the table and there, sorted; and notes on the others.

    root: the folder to search for names that are nearly those of the table, unless all that is there is `present`.
    Raises DataError where there are others, unless `on_mismatch` is skip, and where nothing is left.
    """
    known = set(named)
    without_image, without_row = sorted(known - present.keys()), sorted(present.keys() - known)
    parts = []
    for names, what in ((without_image, "row without an image"), (without_row, "image without a row")):
        if names:
            more = ", ..." if len(names) > 3 else ""
            parts.append(f"{say_count(len(names), what)} ({', '.join(names[:3])}{more})")
    both = sorted(known & present.keys())
    cause = ""
    if without_image and (on_mismatch == "stop" or not both):
        cause = _find_cause(without_image, _walk_images(root) if root else without_row)
    if parts and on_mismatch == "stop":
        raise DataError(
            f"{table.name} and the images do not match: {'; '.join(parts)}{cause}",
            "complete the data, or leave these out with --set data.on_mismatch=skip",
        )
    if not both:
        many = say_count(len(present), "image")
        raise DataError(f"{table.name} names none of the images below {table.parent}, {many} in all{cause}")
    return both, [f"Left out: {part}" for part in parts]


def match_files(root: Path, names: Sequence[str], table: Path, on_mismatch: str) -> tuple[list[int], list[str]]:
    """The rows whose files are there, and notes on the others; for tables that say where each file lies.

    Raises DataError as `match` does.
    """
    there = _find_files(root, names)
    if len(there) == len(names):
        return there, []
    present = {names[row]: "" for row in there}
    _, notes = match(names, present, table, on_mismatch, root)
    return there, notes


def _walk_images(root: Path) -> Iterator[str]:
    """The path of each image below the root."""
    for inner, files in walk(root):
        folder = PurePosixPath(inner.relative_to(root).as_posix())
        yield from (str(folder / file) for file in files if file.lower().endswith(IMAGES))


def walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from `top` down that is not hidden, with its files, in order of their names.

    Linked folders are followed. Each folder is taken once, so that links in a circle end: under its own name where that
    lies below `top`, so that a link beside it renames no image; else under the first link's.
    """
    home = Path(os.path.realpath(top))
    taken = {(os.stat(top).st_dev, os.stat(top).st_ino)}
    for inner, folders, files in os.walk(top, followlinks=True):
        shown = []
        for name in sorted(folders):
            path = os.path.join(inner, name)
            if name.startswith(HIDDEN) or (os.path.islink(path) and _is_walked(Path(os.path.realpath(path)), home)):
                continue
            status = os.stat(path)
            if (status.st_dev, status.st_ino) not in taken:
                taken.add((status.st_dev, status.st_ino))
                shown.append(name)
        folders[:] = shown
        yield Path(inner), sorted(name for name in files if not name.startswith(HIDDEN))


def _find_cause(missing: Sequence[str], present: Iterable[str]) -> str:
    """The difference between names in the table and those on disk, for the end of a message; empty if unknown."""
    on_disk = sorted(present)
    differences: dict[str, Rewriting] = {**SAME_NAME, "the suffix": lambda name: re.sub(r"\.\w+$", "", name)}
    for difference, rewrite in differences.items():
        names = {rewrite(name): name for name in on_disk}
        if alike := [(name, names[rewrite(name)]) for name in missing if rewrite(name) in names]:
            named, there = map(PurePosixPath, alike[0])
            other = (
                f"they are {there.suffix}"
                if named.with_suffix("") == there.with_suffix("")
                else f"it is {str(there)!a}"
            )
            return f"; on disk {other} (a difference in {difference} alone, in {say_count(len(alike), 'name')})"
    return ""


def _find_files(root: Path, names: Sequence[str]) -> list[int]:
    """The rows whose files are there; looked up from the root on, which spares the system the way to it."""
    there = []
    folder = os.open(root, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        for row, name in enumerate(names):
            try:
                if S_ISREG(os.stat(name, dir_fd=folder).st_mode):
                    there.append(row)
            except (OSError, ValueError):
                continue
    finally:
        os.close(folder)
    return there


def _is_walked(folder: Path, home: Path) -> bool:
    """Whether a folder without links in its path is met below `home` without following one, or holds `home` itself.

    A link upwards would bring in the neighbours of `home`: another class's images under this class's name.
    """
    if home.is_relative_to(folder):
        return True
    return folder.is_relative_to(home) and not any(part.startswith(HIDDEN) for part in folder.relative_to(home).parts)
