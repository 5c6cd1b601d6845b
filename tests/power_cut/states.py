"""The folders that a power cut may leave behind: a small model of a file system replays recorded operations.

The second half of the ALICE method (Pillai et al., OSDI 2014); recording.py is the first. Every inode and every
directory entry has two versions: the one that processes see, and the durable one. A sync of a file makes its content
durable, not its name; a sync of a directory makes its entries durable. This is weaker than ext4 or xfs, which order
directory operations, and what POSIX leaves open. Times, owners and modes are not in the model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tests.power_cut.operations import Copy, Create, Key, Link, Operation, Remove, Rename, Resize, Sync, Write

KINDS = ("all", "durable", "entries first", "data first", "torn", "zeros", "one lost")
LAST = 8  # of the un-synced operations, each is lost once

Variant = Literal["all", "durable", "torn", "zeros"]


@dataclass(frozen=True)
class SymbolicLink:
    target: str


# Relative path to content; None is a directory. The root itself is not in it.
Tree = dict[str, bytes | SymbolicLink | None]


@dataclass(frozen=True)
class State:
    """What is on the disk after a power cut; contents are shared with other states."""

    number: int
    """Of operations that had been done."""
    total: int
    operation: str
    """The last one done."""
    kind: str
    """One of KINDS."""
    lost: str
    """The operation that kind "one lost" goes without."""
    tree: Tree

    @property
    def description(self) -> str:
        lost = f": {self.lost}" if self.lost else ""
        return f"after {self.number} of {self.total} ({self.operation}), {self.kind}{lost}"

    def write(self, folder: Path) -> None:
        """Makes the files; `folder` is made if need be, and must be empty."""
        folder.mkdir(parents=True, exist_ok=True)
        assert not any(folder.iterdir()), f"{folder} is not empty"
        write_tree(self.tree, folder)


def read_tree(folder: Path) -> Tree:
    """The files below a folder, without those of SQLite's shared memory, which no record has."""
    tree: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            tree[name] = SymbolicLink(str(path.readlink()))
        elif path.is_dir():
            tree[name] = None
        elif path.is_file() and not name.endswith("-shm"):
            tree[name] = path.read_bytes()
    return tree


def write_tree(tree: Tree, folder: Path) -> None:
    for name in sorted(tree):  # a folder comes before what is in it
        match tree[name]:
            case None:
                (folder / name).mkdir()
            case SymbolicLink(target):
                (folder / name).symlink_to(target)
            case bytes(content):
                (folder / name).write_bytes(content)


def replay(operations: Sequence[Operation], initial: Path | None) -> Tree:
    """What the processes left, if the record is complete: to compare with `read_tree` of the real folder."""
    model = _Model(initial)
    for index, operation in enumerate(operations):
        model.apply(index, operation)
    return model.build(model.current, "all")


def crash_states(operations: Sequence[Operation], initial: Path | None, first: int = 0) -> Iterator[State]:
    """The states that a power cut may leave, at every prefix of the operations; equal ones once, at the first prefix.

    operations: of `parse`; initial: a copy of the root from before they were recorded, None if it was empty; first:
    the shortest prefix, so len(operations) for a power cut after the end.
    """
    model, seen = _Model(initial), set[int]()
    for number in range(len(operations) + 1):
        if number:
            model.apply(number - 1, operations[number - 1])
        if number < first:
            continue
        text = operations[number - 1].text if number else "nothing"
        for kind, lost, tree in model.list_states():
            # 64 bits of hash instead of the contents, which may be large; Python keeps that of each content.
            key = hash(frozenset(tree.items()))
            if key not in seen:
                seen.add(key)
                yield State(number, len(operations), text, kind, lost, tree)


@dataclass(frozen=True)
class _Edit:
    """An un-synced change of a file's content."""

    index: int
    text: str
    start: int
    data: bytes
    size: int | None = None  # of a change of size; then there are no data
    zeros: int = 0  # after the data, where the file was shorter

    def apply(self, content: bytearray) -> None:
        end = self.start + len(self.data) + self.zeros
        if self.size is not None:
            del content[self.size :]
            end = self.size
        elif self.data:
            content.extend(bytes(max(0, self.start - len(content))))
            content[self.start : self.start + len(self.data)] = self.data
        if self.size is not None or self.zeros:
            content.extend(bytes(max(0, end - len(content))))


class _File:
    """An inode with content."""

    def __init__(self, content: bytes) -> None:
        self.durable = content
        self.pending: list[_Edit] = []
        self._restart()

    def _restart(self) -> None:
        self._current = bytearray(self.durable)
        self._frozen: bytes | None = self.durable
        self._base = bytearray(self.durable)  # with the first `_in_base` of the pending ones, so that leaving out
        self._in_base = 0  # one of the last does not replay them all
        pending, self.pending = self.pending, []
        for edit in pending:
            self.add(edit)

    @property
    def size(self) -> int:
        return len(self._current)

    @property
    def current(self) -> bytes:
        if self._frozen is None:
            self._frozen = bytes(self._current)
        return self._frozen

    def add(self, edit: _Edit) -> None:
        edit.apply(self._current)
        self._frozen = None
        self.pending.append(edit)
        if len(self.pending) - self._in_base > LAST:
            self.pending[self._in_base].apply(self._base)
            self._in_base += 1

    def sync(self, covers: int) -> None:
        done = [edit for edit in self.pending if edit.index < covers]
        if len(done) == len(self.pending):
            self.durable = self.current
        else:
            content = bytearray(self.durable)
            for edit in done:
                edit.apply(content)
            self.durable = bytes(content)
        self.pending = self.pending[len(done) :]
        if done:
            self._restart()

    def replace(self, position: int, other: _Edit | None) -> bytes:
        """The current content, had one pending edit been another, or none."""
        near = position >= self._in_base
        content = bytearray(self._base if near else self.durable)
        for place, edit in enumerate(self.pending[self._in_base if near else 0 :], self._in_base if near else 0):
            if place != position:
                edit.apply(content)
            elif other is not None:
                other.apply(content)
        return bytes(content)

    def tear(self, zeros: bool) -> bytes:
        """The current content with the last un-synced write cut in half."""
        for position in reversed(range(len(self.pending))):
            edit = self.pending[position]
            if edit.size is None:
                half = len(edit.data) // 2
                rest = len(edit.data) - half if zeros else 0
                return self.replace(position, _Edit(edit.index, edit.text, edit.start, edit.data[:half], zeros=rest))
        return self.current


_Place = tuple[Key, str]  # a name in a directory
_Entries = dict[Key, dict[str, Key]]


@dataclass
class _Change:
    """A directory operation that is not durable yet: all of its entries change, or none."""

    index: int
    text: str
    entries: dict[_Place, Key | None]
    needs: frozenset[_Place]  # besides: a link, the name it was made from
    emptied: set[_Place]  # of a directory that it removes: what was moved out of it must be elsewhere by then
    synced: bool = False

    @property
    def places(self) -> set[_Place]:
        return self.entries.keys() | self.needs | self.emptied

    @property
    def target(self) -> tuple[_Place, Key] | None:
        """Where a rename from another directory puts what; None of all others."""
        found = [(place, inode) for place, inode in self.entries.items() if inode is not None]
        moves = len({directory for directory, _ in self.entries}) > 1
        return found[0] if moves else None

    def apply(self, entries: _Entries) -> None:
        for (directory, name), inode in self.entries.items():
            if inode is None:
                entries[directory].pop(name, None)
            else:
                entries[directory][name] = inode


class _Model:
    """A file system: inodes by key, entries by directory."""

    def __init__(self, initial: Path | None) -> None:
        self.files: dict[Key, _File] = {}
        self.links: dict[Key, str] = {}
        self.current: _Entries = {"": {}}
        self._aliases: dict[Key, Key] = {}  # of a file with several names in the initial folder
        if initial is not None:
            self._load(initial)
        self._durable = _copy(self.current)
        self._changes: list[_Change] = []

    def _load(self, initial: Path) -> None:
        known: dict[tuple[int, int], Key] = {}
        for name, content in read_tree(initial).items():
            status = (initial / name).lstat()
            key = known.setdefault((status.st_dev, status.st_ino), name)
            if key != name:
                self._aliases[name] = key
            elif isinstance(content, SymbolicLink):
                self.links[key] = content.target
            elif content is None:
                self.current[key] = {}
            else:
                self.files[key] = _File(content)
            directory, _, last = name.rpartition("/")
            self.current[directory][last] = key

    def _real(self, key: Key) -> Key:
        return self._aliases.get(key, key)

    def apply(self, index: int, operation: Operation) -> None:
        match operation:
            case Create():
                self._create(index, operation)
            case Write(text, inode, offset, data):
                self._write(index, text, self.files[self._real(inode)], offset, data)
            case Copy(text, inode, offset, source, start, size):
                data = self.files[self._real(source)].current[start : start + size]
                self._write(index, text, self.files[self._real(inode)], offset, data)
            case Resize(text, inode, size, shrinks):
                file = self.files[self._real(inode)]
                if size > file.size or (shrinks and size < file.size):
                    file.add(_Edit(index, text, 0, b"", size))
            case Link(text, source_directory, source, directory, name, inode):
                needs = frozenset({(self._real(source_directory), source)})
                self._change(index, text, {(self._real(directory), name): self._real(inode)}, needs)
            case Rename(text, source_directory, source, directory, name):
                old, new = (self._real(source_directory), source), (self._real(directory), name)
                inode = self.current[old[0]][source]
                if self.current[new[0]].get(name) != inode:  # two names of one file: POSIX leaves both
                    self._change(index, text, {old: None, new: inode})
            case Remove(text, directory, name):
                self._change(index, text, {(self._real(directory), name): None})
            case Sync(_, inode, covers):
                self._sync(None if inode is None else self._real(inode), covers)

    def _create(self, index: int, operation: Create) -> None:
        directory, key = self._real(operation.directory), operation.inode
        if operation.name in self.current[directory]:
            assert operation.kind == "file", f"{operation.text}: it is there already"
            self._aliases[key] = self.current[directory][operation.name]
            return
        match operation.kind:
            case "file":
                self.files[key] = _File(b"")
            case "symlink":
                self.links[key] = operation.target
            case "directory":
                self.current[key] = {}
                self._durable[key] = {}
        self._change(index, operation.text, {(directory, operation.name): key})

    def _write(self, index: int, text: str, file: _File, offset: int | None, data: bytes) -> None:
        file.add(_Edit(index, text, file.size if offset is None else offset, data))

    def _change(
        self, index: int, text: str, entries: dict[_Place, Key | None], needs: frozenset[_Place] = frozenset()
    ) -> None:
        replaced = {self.current[directory].get(name) for directory, name in entries} - set(entries.values())
        places = {place for change in self._changes for place in change.entries}
        emptied = {
            (directory, name) for directory, name in places if directory in replaced and directory in self.current
        }
        change = _Change(index, text, entries, needs, emptied)
        change.apply(self.current)
        self._changes.append(change)

    def _sync(self, key: Key | None, covers: int) -> None:
        for name in self.files if key is None else [key]:
            if name in self.files:
                self.files[name].sync(covers)
        places: set[_Place] = set()
        for change in reversed(self._changes):
            here = key is None or any(directory == key for directory, _ in change.entries)
            # An earlier change of the same name goes with it: later it would undo this one.
            if change.synced or (here and change.index < covers) or places & change.entries.keys():
                change.synced = True
                places |= change.entries.keys() | change.emptied
        self._settle()

    def _settle(self) -> None:
        """Applies synced changes to the durable entries.

        A move waits until its directory can be reached: else what it moves would be under neither name.
        """
        waiting: list[_Change] = []
        places: set[_Place] = set()
        for change in self._changes:
            target = change.target
            held = target is not None and target[0][0] not in _reach(self._durable)
            if not change.synced or held or places & change.entries.keys():
                waiting.append(change)
                places |= change.entries.keys()
            else:
                change.apply(self._durable)
        self._changes = waiting

    # States

    def list_states(self) -> Iterator[tuple[str, str, Tree]]:
        """(kind, lost operation, tree), the different ones and some equal ones."""
        yield "all", "", self.build(self.current, "all")
        lost_data = any(file.pending for file in self.files.values())
        lost_entries = any(not change.synced for change in self._changes)
        durable = self._fold([change for change in self._changes if change.synced])
        if lost_data or lost_entries:
            yield "durable", "", self.build(durable, "durable")
        if lost_data:
            yield "entries first", "", self.build(self.current, "durable")
        if lost_entries:
            yield "data first", "", self.build(durable, "all")
        if lost_data:
            yield "torn", "", self.build(self.current, "torn")
            yield "zeros", "", self.build(self.current, "zeros")
        for text, tree in self._list_losses():
            yield "one lost", text, tree

    def _list_losses(self) -> Iterator[tuple[str, Tree]]:
        losses: list[tuple[int, str, Callable[[], Tree]]] = []
        for change in self._changes:
            if not change.synced:
                losses.append((change.index, change.text, partial(self._lose_change, change)))
        for key, file in self.files.items():
            first = max(0, len(file.pending) - LAST)
            for position, edit in enumerate(file.pending[first:], first):
                losses.append((edit.index, edit.text, partial(self._lose_edit, key, position)))
        for _, text, build in sorted(losses, key=lambda loss: loss[0])[-LAST:]:
            yield text, build()

    def _lose_change(self, lost: _Change) -> Tree:
        return self.build(self._fold(_leave_out(self._changes, lost)), "all")

    def _lose_edit(self, key: Key, position: int) -> Tree:
        return self.build(self.current, "all", {key: self.files[key].replace(position, None)})

    def _fold(self, changes: list[_Change]) -> _Entries:
        """The durable entries with these changes, without the moves into directories that are not there."""
        while True:
            entries = _copy(self._durable)
            for change in changes:
                change.apply(entries)
            if not (moves := [(change, change.target) for change in changes if change.target]):
                return entries
            reached = _reach(entries)
            unreached = {key for folder in entries.keys() - reached for key in entries[folder].values()}
            named = {key for folder in reached for key in entries[folder].values()}
            for change, target in moves:
                assert target is not None
                (directory, _), inode = target
                if directory not in reached and inode in unreached - named:
                    changes = _leave_out(changes, change)
                    break
            else:
                return entries

    def build(self, entries: _Entries, variant: Variant, contents: dict[Key, bytes] | None = None) -> Tree:
        """The files that names lead to."""
        tree: Tree = {}
        folders: list[tuple[str, Key]] = [("", "")]
        while folders:
            prefix, directory = folders.pop()
            for name, key in entries[directory].items():
                path = prefix + name
                if key in self.files:
                    replaced = contents.get(key) if contents else None
                    tree[path] = self._content(self.files[key], variant) if replaced is None else replaced
                elif key in self.links:
                    tree[path] = SymbolicLink(self.links[key])
                else:
                    tree[path] = None
                    folders.append((f"{path}/", key))
        return tree

    def _content(self, file: _File, variant: Variant) -> bytes:
        match variant:
            case "all":
                return file.current
            case "durable":
                return file.durable
            case "torn" | "zeros":
                return file.tear(zeros=variant == "zeros") if file.pending else file.durable


def _copy(entries: _Entries) -> _Entries:
    return {directory: dict(names) for directory, names in entries.items()}


def _reach(entries: _Entries) -> set[Key]:
    """The directories that can be reached from the root."""
    reached: set[Key] = {""}
    folders: list[Key] = [""]
    while folders:
        for key in entries[folders.pop()].values():
            if key in entries and key not in reached:
                reached.add(key)
                folders.append(key)
    return reached


def _leave_out(changes: Iterable[_Change], lost: _Change) -> list[_Change]:
    """The changes without one, and without all later ones that build on it: a file must not lose all of its names."""
    kept: list[_Change] = []
    places: set[_Place] = set()
    for change in changes:
        if change is lost or places & change.places:
            places |= change.places
        else:
            kept.append(change)
    return kept
