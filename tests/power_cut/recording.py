"""What a process and its children did to the files below a folder: recorded by strace, read back as operations.

The first half of the ALICE method (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014); states.py is
the other half. What cannot be followed exactly raises RecordingError instead of being left out.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.power_cut.operations import (
    Copy,
    Create,
    Key,
    Kind,
    Link,
    Mapped,
    Operation,
    Remove,
    Rename,
    Resize,
    Sync,
    Write,
)

# "?": a call that this processor's Linux does not have. Reads move the offset of the next write; ioctl can clone files.
CALLS = (
    "open openat openat2 creat close close_range dup dup2 dup3 fcntl ioctl lseek read readv write pwrite64 writev "
    "pwritev pwritev2 ftruncate truncate fallocate copy_file_range sendfile splice mmap rename renameat renameat2 "
    "unlink unlinkat mkdir mkdirat rmdir link linkat symlink symlinkat mknod mknodat fsync fdatasync sync syncfs "
    "clone clone3 fork vfork execve chdir fchdir io_uring_setup"
).split()
CHANGING = tuple("write pwrite ftrunc trunc falloc copy_ sendf rename unlink mkdir rmdir link symlink".split())
TEXT_LIMIT = 1 << 27  # of one write, in bytes; strace has room for it in address space only


class RecordingError(Exception):
    """strace failed, or the process did something that the record cannot follow."""


@cache
def why_not() -> str | None:
    """Why nothing can be recorded here; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {probe.stderr.strip()}" if probe.returncode else None


def record(
    command: Sequence[str],
    root: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    code: int = 0,
    limit: float = 300,
) -> None:
    """Runs the command to its end, and that of all its children, and writes their calls to `log`.

    root: an existing folder; log: not below it. RecordingError if the exit code is not `code` (negative: a signal), or
    after `limit` seconds.
    """
    if log.resolve().is_relative_to(root.resolve(strict=True)):
        raise RecordingError(f"the log {log} must not be below {root}")
    options = [
        "-f",
        "--seccomp-bpf",
        "-q",
        "-y",
        "-xx",
        "-s",
        str(TEXT_LIMIT),
        "-e",
        "signal=none",
        "-e",
        "raw=read,readv",
    ]
    tracer = ["strace", *options, "-e", "trace=" + ",".join(f"?{call}" for call in CALLS), "-o", str(log), "--"]
    with subprocess.Popen(
        [*tracer, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # a tracer that is killed alone leaves the traced running
            if isinstance(error, subprocess.TimeoutExpired):
                raise RecordingError(f"not done after {limit} s: {' '.join(command)}") from error
            raise
    if process.returncode != code:
        text = output.decode(errors="replace")[-2000:]
        raise RecordingError(f"exit code {process.returncode}, not {code}: {' '.join(command)}\n{text}")


def parse(log: Path, root: Path) -> list[Operation]:
    """The operations below `root`, in the order in which the calls ended, of all processes and threads.

    The files of SQLite's shared memory (`-shm`) are left out: SQLite makes them anew after a crash. Data copied from a
    file outside of the root are read now: it must not have changed. RecordingError at what cannot be followed.
    """
    with open(log, encoding="ascii", errors="surrogateescape") as lines:
        parents = {int(match[2]): int(match[1]) for line in lines if (match := CHILD.match(line))}
    parser = _Parser(root.resolve(), parents)
    with open(log, encoding="ascii", errors="surrogateescape") as lines:
        for line in lines:
            parser.read_line(line.rstrip("\n"))
    return parser.operations


CHILD = re.compile(r"(\d+) +(?:(?:clone3?|v?fork)\(|<\.\.\. (?:clone3?|v?fork) resumed>).* = (\d+)$")
CALL = re.compile(r"(\w+)\((.*)\) += (.+)$", re.DOTALL)
TOKEN = re.compile(r'"[^"]*"(?:\.\.\.)?|[\[{(]|[\]})]|, |[^"\[\]{}(),]+|,')
TEXT = re.compile(r'"([^"]*)"(\.\.\.)?')
DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)(?:<((?:\\x[0-9a-f]{2})*)>)?")


def _split(arguments: str) -> list[str]:
    pieces, depth = [""], 0
    for token in TOKEN.findall(arguments):
        depth += (token in "[{(") - (token in "]})")
        if token == ", " and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += token
    return pieces


def _decode(digits: str) -> bytes:
    return bytes.fromhex(digits.replace("\\x", ""))


def _texts(argument: str) -> bytes:
    """All strings of an argument, one after another; a write's data."""
    texts = TEXT.findall(argument)
    if any(cut for _, cut in texts):
        raise RecordingError(f"strace cut a string of more than {TEXT_LIMIT} bytes")
    return b"".join(_decode(digits) for digits, _ in texts)


def _path(argument: str) -> str:
    return os.fsdecode(_texts(argument))


def _descriptor(argument: str) -> tuple[int | None, str | None]:
    """Its number, None of the working folder, and its path, None of what is no file."""
    match = DESCRIPTOR.match(argument)
    if match is None:
        raise RecordingError(f"no file descriptor: {argument}")
    path = os.fsdecode(_decode(match[2])) if match[2] else None
    return None if match[1] == "AT_FDCWD" else int(match[1]), path


def _pointed(argument: str) -> int | None:
    """The offset behind a pointer, `[5]` or `[5] => [10]`; None of NULL."""
    match = re.match(r"\[(\d+)\]", argument)
    return int(match[1]) if match else None


@dataclass
class _Description:
    """An open file: what dup and fork share."""

    inode: Key
    offset: int | None  # None: unknown, at the end of a file opened for appending
    appends: bool
    syncs: bool
    writable: bool


@dataclass
class _Slot:
    """A descriptor: what each table has of its own."""

    description: _Description
    closes_on_exec: bool


_Table = dict[int, _Slot]


@dataclass
class _Process:
    table: _Table
    folder: list[str | None]  # one element, shared by threads


@dataclass
class _Unfinished:
    text: str
    began: int
    table: _Table = field(default_factory=dict)


@dataclass
class _Call:
    """A call that ended well."""

    name: str
    arguments: list[str]
    returned: str
    began: int  # how many operations there were then
    process: _Process
    table: _Table  # as it was then

    @property
    def result(self) -> int:
        return int(self.returned.split("<")[0].split(" ")[0], 0)

    def has(self, flag: str) -> bool:
        return any(re.search(rf"\b{flag}\b", argument) for argument in self.arguments)


class _Parser:
    """One pass over the log, with the descriptors of every process and the names below the root."""

    def __init__(self, root: Path, parents: dict[int, int]) -> None:
        self.operations: list[Operation] = []
        self._root = str(root)
        self._parents = parents
        self._processes: dict[int, _Process] = {}
        self._unfinished: dict[int, _Unfinished] = {}
        self._entries: dict[Key, dict[str, Key | None]] = {}  # None: known to be absent
        self._made = 0
        self._handlers: dict[str, Callable[[_Call], None]] = self._name_handlers()

    def read_line(self, line: str) -> None:
        number, _, text = line.partition(" ")
        pid, text = int(number), text.lstrip()
        if text.startswith("+++"):
            self._end_process(pid, text)
        elif text.startswith("<... "):
            before = self._unfinished.pop(pid)
            self._end_call(pid, before.text + text.partition(" resumed>")[2], before.began, before.table)
        elif not text.startswith("---"):
            process = self._find_process(pid)
            table = dict(process.table)
            if text.startswith("close("):
                # The number is free from here on: another thread may get it before this call's end is in the log.
                process.table.pop(_descriptor(text[len("close(") :])[0] or 0, None)
            if text.endswith("<unfinished ...>"):
                text = text.removesuffix("<unfinished ...>").removesuffix(" ")
                self._unfinished[pid] = _Unfinished(text, len(self.operations), table)
            else:
                self._end_call(pid, text, len(self.operations), table)

    def _end_process(self, pid: int, text: str) -> None:
        self._processes.pop(pid, None)
        unfinished = self._unfinished.pop(pid, None)
        if heir := re.search(r"superseded by execve in pid (\d+)", text):
            self._processes[pid] = self._processes.pop(int(heir[1]))
            self._unfinished[pid] = self._unfinished.pop(int(heir[1]))
        elif unfinished:
            self._refuse_unknown_effect(unfinished.text)

    def _refuse_unknown_effect(self, text: str) -> None:
        """Of a call that never ended: its process was killed, or another thread ended the process."""
        if text.startswith(CHANGING) and self._root in _plain(text):
            raise RecordingError(f"not known to have been done when its process ended: {_plain(text)[:200]}")

    def _find_process(self, pid: int) -> _Process:
        """Of a process whose first line comes before its parent's call has ended, too."""
        if pid not in self._processes:
            parent = self._parents.get(pid)
            if parent is None or parent not in self._processes:
                self._processes[pid] = _Process({}, [None])
            else:
                self._start_process(pid, self._processes[parent], self._unfinished[parent].text)
        return self._processes[pid]

    def _start_process(self, pid: int, parent: _Process, call: str) -> None:
        table = parent.table if "CLONE_FILES" in call else _copy_table(parent.table)
        self._processes[pid] = _Process(table, parent.folder if "CLONE_FS" in call else list(parent.folder))

    def _end_call(self, pid: int, text: str, began: int, table: _Table) -> None:
        match = CALL.match(text)
        if match is None:
            raise RecordingError(f"unreadable: {_plain(text)[:200]}")
        name, arguments, returned = match[1], match[2], match[3]
        if returned == "?":
            self._refuse_unknown_effect(text)
        if returned.startswith(("-1 ", "?")):
            return  # failed, or interrupted before it did anything
        process = self._find_process(pid)
        if name in {"clone", "clone3", "fork", "vfork"}:
            if int(returned) not in self._processes:
                self._start_process(int(returned), process, text)
            return
        if handler := self._handlers.get(name):
            handler(_Call(name, _split(arguments), returned, began, process, table))

    def _name_handlers(self) -> dict[str, Callable[[_Call], None]]:
        return {
            **dict.fromkeys(["open", "openat", "openat2", "creat"], self._open),
            **dict.fromkeys(["dup", "dup2", "dup3"], self._duplicate),
            **dict.fromkeys(["read", "readv"], self._read),
            **dict.fromkeys(["write", "writev", "pwrite64", "pwritev", "pwritev2"], self._write),
            **dict.fromkeys(["copy_file_range", "sendfile"], self._copy),
            **dict.fromkeys(["ftruncate", "truncate"], self._truncate),
            **dict.fromkeys(["rename", "renameat", "renameat2"], self._rename),
            **dict.fromkeys(["unlink", "unlinkat", "rmdir"], self._remove),
            **dict.fromkeys(["mkdir", "mkdirat", "symlink", "symlinkat"], self._make),
            **dict.fromkeys(["link", "linkat"], self._link),
            **dict.fromkeys(["fsync", "fdatasync", "sync", "syncfs"], self._sync),
            **dict.fromkeys(["chdir", "fchdir"], self._change_folder),
            **dict.fromkeys(["mknod", "mknodat", "splice", "io_uring_setup"], self._refuse),
            "close_range": self._close_range,
            "execve": self._execute,
            "fallocate": self._allocate,
            "fcntl": self._control,
            "ioctl": self._control_device,
            "lseek": self._seek,
            "mmap": self._map,
        }

    # Names

    def _below(self, path: str | None) -> str | None:
        """The path below the root; None of one outside and of what is left out."""
        if path is None or path.endswith("-shm"):
            return None
        if path == self._root:
            return ""
        return path.removeprefix(self._root + "/") if path.startswith(self._root + "/") else None

    def _find_name(self, call: _Call, path: str, folder: str | None = None, *, follow: bool = False) -> str | None:
        """The path below the root of a path argument, relative to the argument `folder` or the process's folder."""
        base = _descriptor(folder)[1] if folder else call.process.folder[0]
        if not path.startswith("/"):
            if base is None:
                raise RecordingError(f"{call.name} of {path}, relative to an unknown folder")
            path = f"{base}/{path}"
        head, tail = os.path.split(path.rstrip("/"))
        whole = os.path.realpath(path) if follow or tail in {"", ".", ".."} else f"{os.path.realpath(head)}/{tail}"
        return self._below(whole)

    def _find_entry(self, path: str) -> tuple[Key, str]:
        """The directory's inode and the last name."""
        *folders, name = path.split("/")
        directory: Key = ""
        for folder in folders:
            inode = self._look_up(directory, folder)
            if inode is None:
                raise RecordingError(f"{path}: the record does not have its folder")
            directory = inode
        return directory, name

    def _look_up(self, directory: Key, name: str) -> Key | None:
        """The inode of a name; what an initial folder may have has its path as key until the record says otherwise."""
        entries = self._entries.setdefault(directory, {})
        if name not in entries and isinstance(directory, str):
            entries[name] = f"{directory}/{name}" if directory else name
        return entries.get(name)

    def _find_inode(self, path: str) -> Key:
        if path == "":
            return ""
        inode = self._look_up(*self._find_entry(path))
        if inode is None:
            raise RecordingError(f"{path}: the record does not have it")
        return inode

    def _set_entry(self, directory: Key, name: str, inode: Key | None) -> None:
        self._entries.setdefault(directory, {})[name] = inode

    def _new_key(self) -> int:
        self._made += 1
        return self._made

    # Descriptors

    def _find_open(self, call: _Call, argument: str) -> tuple[_Description, str] | None:
        """The open file of a descriptor and its path below the root; None of one outside."""
        number, path = _descriptor(argument)
        name = self._below(path)
        if name is None or number is None:
            return None
        if number not in call.table:
            raise RecordingError(f"{call.name} on descriptor {number} of {name}, whose opening is not in the record")
        return call.table[number].description, name or "."

    def _open(self, call: _Call) -> None:
        number, path = _descriptor(call.returned)
        assert number is not None
        call.process.table.pop(number, None)
        if call.arguments[0].startswith("AT_FDCWD<"):
            call.process.folder[0] = _descriptor(call.arguments[0])[1]
        name = self._below(path)
        if name is None:
            return
        if call.has("O_TMPFILE"):
            raise RecordingError("O_TMPFILE, a file without a name, is not followed")
        truncates = call.has("O_TRUNC") or call.name == "creat"
        inode = self._create_file(name) if call.has("O_CREAT") or call.name == "creat" else self._find_inode(name)
        if truncates:
            self.operations.append(Resize(f"truncate {name} by opening it", inode, 0))
        writable = call.has("O_WRONLY") or call.has("O_RDWR") or call.name == "creat"
        syncs = call.has("O_SYNC") or call.has("O_DSYNC")
        appends = call.has("O_APPEND")
        description = _Description(inode, None if appends else 0, appends, syncs, writable)
        call.process.table[number] = _Slot(description, call.has("O_CLOEXEC"))

    def _create_file(self, name: str) -> Key:
        directory, last = self._find_entry(name)
        known = last in self._entries.get(directory, {})
        inode = self._look_up(directory, last)
        if known and inode is not None:
            return inode
        if inode is None:
            inode = self._new_key()
            self._set_entry(directory, last, inode)
        self.operations.append(Create(f"create {name}", directory, last, inode, "file"))
        return inode

    def _duplicate(self, call: _Call) -> None:
        old, new = _descriptor(call.arguments[0])[0], call.result
        if old == new or old is None:
            return
        call.process.table.pop(new, None)
        if old in call.table:
            call.process.table[new] = _Slot(call.table[old].description, call.has("O_CLOEXEC"))

    def _control(self, call: _Call) -> None:
        command = call.arguments[1]
        if command.startswith("F_DUPFD"):
            self._duplicate(call)
            if call.result in call.process.table:
                call.process.table[call.result].closes_on_exec = command == "F_DUPFD_CLOEXEC"
        elif slot := call.table.get(_descriptor(call.arguments[0])[0] or 0):
            if command == "F_SETFD":
                slot.closes_on_exec = call.has("FD_CLOEXEC")
            elif command == "F_SETFL" and call.has("O_APPEND") != slot.description.appends:
                raise RecordingError("fcntl turns O_APPEND on or off, which is not followed")

    def _control_device(self, call: _Call) -> None:
        if slot := call.table.get(_descriptor(call.arguments[0])[0] or 0):
            if call.arguments[1] in {"FIOCLEX", "FIONCLEX"}:
                slot.closes_on_exec = call.arguments[1] == "FIOCLEX"
            elif call.arguments[1].startswith(("FICLONE", "FIDEDUPERANGE", "BTRFS_IOC")):
                raise RecordingError(f"{call.arguments[1]}, sharing of blocks, is not followed")

    def _close_range(self, call: _Call) -> None:
        first, last = (int(text, 0) if text[0].isdigit() else 2**32 for text in call.arguments[:2])
        for number in [number for number in call.process.table if first <= number <= last]:
            if call.has("CLOSE_RANGE_CLOEXEC"):
                call.process.table[number].closes_on_exec = True
            else:
                del call.process.table[number]

    def _execute(self, call: _Call) -> None:
        kept = {number: slot for number, slot in call.process.table.items() if not slot.closes_on_exec}
        call.process.table = _copy_table(kept)

    def _change_folder(self, call: _Call) -> None:
        if call.name == "fchdir":
            call.process.folder[0] = _descriptor(call.arguments[0])[1]
        else:
            call.process.folder[0] = os.path.realpath(
                os.path.join(call.process.folder[0] or "", _path(call.arguments[0]))
            )

    # Contents

    def _seek(self, call: _Call) -> None:
        if found := self._find_open(call, call.arguments[0]):
            found[0].offset = call.result

    def _read(self, call: _Call) -> None:
        slot = call.table.get(int(call.arguments[0], 0))
        if slot and slot.description.offset is not None:
            slot.description.offset += call.result

    def _write(self, call: _Call) -> None:
        found = self._find_open(call, call.arguments[0])
        if found is None or call.result == 0:
            return
        description, name = found
        data = _texts(call.arguments[1])[: call.result]
        assert len(data) == call.result
        positioned = call.name.startswith("p") and call.arguments[3] != "-1"
        flags = call.arguments[4] if call.name == "pwritev2" else ""
        appends = description.appends or "RWF_APPEND" in flags  # Linux appends at pwrite too
        offset = None if appends else int(call.arguments[3]) if positioned else description.offset
        where = "at its end" if offset is None else f"at {offset}"
        self.operations.append(Write(f"write {len(data)} bytes to {name} {where}", description.inode, offset, data))
        if not positioned and offset is not None:
            description.offset = offset + len(data)
        self._sync_if_asked(description, name, asked="SYNC" in flags)

    def _sync_if_asked(self, description: _Description, name: str, asked: bool = False) -> None:
        if description.syncs or asked:
            self.operations.append(Sync(f"sync {name} by writing", description.inode, len(self.operations)))

    def _copy(self, call: _Call) -> None:
        if call.name == "sendfile":
            target, source, from_pointer = call.arguments[:3]
            to_pointer = "NULL"
        else:
            source, from_pointer, target, to_pointer = call.arguments[:4]
        size, found = call.result, self._find_open(call, target)
        number, source_path = _descriptor(source)
        here = call.table.get(-1 if number is None else number)
        start = _pointed(from_pointer)
        if start is None and here and here.description.offset is not None:
            start = here.description.offset
            here.description.offset += size
        if found is None or size == 0:
            return
        description, name = found
        if start is None or source_path is None:
            raise RecordingError(f"{call.name} to {name} from an unknown offset or no file")
        offset = None if description.appends else _pointed(to_pointer)
        if offset is None and not description.appends:
            offset = description.offset
            description.offset = None if offset is None else offset + size
        text = f"copy {size} bytes to {name} at {'its end' if offset is None else offset}"
        if here and self._below(source_path) is not None:
            key = here.description.inode
            self.operations.append(Copy(text, description.inode, offset, key, start, size))
        else:
            data = Path(source_path).read_bytes()[start : start + size]
            if len(data) != size:
                raise RecordingError(f"{call.name}: {source_path} has changed since")
            self.operations.append(Write(text, description.inode, offset, data))
        self._sync_if_asked(description, name)

    def _truncate(self, call: _Call) -> None:
        if call.name == "ftruncate":
            found = self._find_open(call, call.arguments[0])
            inode, name = (found[0].inode, found[1]) if found else (None, None)
        else:
            name = self._find_name(call, _path(call.arguments[0]), follow=True)
            inode = None if name is None else self._find_inode(name)
        if inode is not None:
            size = int(call.arguments[1], 0)
            self.operations.append(Resize(f"truncate {name} to {size} bytes", inode, size))

    def _allocate(self, call: _Call) -> None:
        found = self._find_open(call, call.arguments[0])
        if found is None or call.arguments[1] == "FALLOC_FL_KEEP_SIZE":
            return
        if call.arguments[1] != "0":
            raise RecordingError(f"fallocate with {call.arguments[1]} is not followed")
        size = int(call.arguments[2], 0) + int(call.arguments[3], 0)
        self.operations.append(Resize(f"allocate {size} bytes of {found[1]}", found[0].inode, size, shrinks=False))

    def _map(self, call: _Call) -> None:
        if not call.has("MAP_SHARED") and not call.has("MAP_SHARED_VALIDATE"):
            return
        if call.arguments[4].startswith("-1"):
            return
        found = self._find_open(call, call.arguments[4])
        if found and found[0].writable:  # a map that is read-only now can be made writable later
            self.operations.append(Mapped(f"map {found[1]} into memory", found[1], found[0].inode))

    def _sync(self, call: _Call) -> None:
        if call.name in {"sync", "syncfs"}:
            self.operations.append(Sync(call.name, None, call.began))
        elif found := self._find_open(call, call.arguments[0]):
            self.operations.append(Sync(f"{call.name} {found[1]}", found[0].inode, call.began))

    def _refuse(self, call: _Call) -> None:
        if call.name == "splice":
            if self._find_open(call, call.arguments[2]) is None:
                return
        elif call.name.startswith("mknod"):
            folder, path = ([None, *call.arguments] if call.name == "mknod" else call.arguments)[:2]
            if path is None or self._find_name(call, _path(path), folder) is None:
                return
        raise RecordingError(f"{call.name} is not followed")

    # Directories

    def _make(self, call: _Call) -> None:
        if call.name.startswith("symlink"):
            target, *rest = call.arguments
            kind: Kind = "symlink"
        else:
            target, rest, kind = '""', call.arguments, "directory"
        folder, path = (rest[0], rest[1]) if call.name.endswith("at") else (None, rest[0])
        name = self._find_name(call, _path(path), folder)
        if name is None:
            return
        inode, (directory, last) = self._new_key(), self._find_entry(name)
        self._set_entry(directory, last, inode)
        verb = {"symlink": "make the symbolic link", "directory": "make the folder"}.get(kind, kind)
        self.operations.append(Create(f"{verb} {name}", directory, last, inode, kind, _path(target)))

    def _find_pair(self, call: _Call) -> tuple[str | None, str | None]:
        """The two paths below the root of a rename or link."""
        if call.name in {"rename", "link"}:
            old, new = call.arguments[:2]
            return self._find_name(call, _path(old)), self._find_name(call, _path(new))
        from_folder, old, to_folder, new = call.arguments[:4]
        return self._find_name(call, _path(old), from_folder), self._find_name(call, _path(new), to_folder)

    def _rename(self, call: _Call) -> None:
        if call.has("RENAME_EXCHANGE") or call.has("RENAME_WHITEOUT"):
            raise RecordingError(f"{call.arguments[-1]} is not followed")
        old, new = self._find_pair(call)
        if old is None and new is None:
            return
        if old is None:
            raise RecordingError(f"{new} comes by a rename from outside of the root: its content is not in the record")
        inode, (source_directory, source) = self._find_inode(old), self._find_entry(old)
        if new is None:
            self._set_entry(source_directory, source, None)
            self.operations.append(Remove(f"rename {old} to outside", source_directory, source))
            return
        directory, name = self._find_entry(new)
        if self._entries.get(directory, {}).get(name) == inode:
            return  # two names of one file: POSIX leaves both
        self._set_entry(source_directory, source, None)
        self._set_entry(directory, name, inode)
        self.operations.append(Rename(f"rename {old} to {new}", source_directory, source, directory, name))

    def _link(self, call: _Call) -> None:
        old, new = self._find_pair(call)
        if new is None:
            return
        if old is None:
            raise RecordingError(f"{new} is a link to a file without a name or outside of the root")
        inode, (source_directory, source) = self._find_inode(old), self._find_entry(old)
        directory, name = self._find_entry(new)
        self._set_entry(directory, name, inode)
        self.operations.append(Link(f"link {old} as {new}", source_directory, source, directory, name, inode))

    def _remove(self, call: _Call) -> None:
        folder, path = (call.arguments[0], call.arguments[1]) if call.name == "unlinkat" else (None, call.arguments[0])
        name = self._find_name(call, _path(path), folder)
        if name is None:
            return
        directory, last = self._find_entry(name)
        self._set_entry(directory, last, None)
        self.operations.append(Remove(f"remove {name}", directory, last))


def _copy_table(table: _Table) -> _Table:
    """For another process: the open files are shared, what happens at exec is not."""
    return {number: _Slot(slot.description, slot.closes_on_exec) for number, slot in table.items()}


def _plain(text: str) -> str:
    """A line of the log with its strings readable."""
    return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda match: os.fsdecode(_decode(match[0])), text)
