"""The model of a power cut against short real processes, and the reading of the log against written ones."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.power_cut.operations import Create, Operation, Rename, Resize, Sync, Write, mapped
from tests.power_cut.recording import RecordingError, parse, record, why_not
from tests.power_cut.states import KINDS, State, SymbolicLink, Tree, crash_states, read_tree, replay

ATOMIC = """
with open("new.tmp", "wb") as file:
    file.write(b"new content")
    file.flush()
    {fsync}
os.replace("new.tmp", "file")
folder = os.open(".", os.O_RDONLY)
{fsync_folder}
os.close(folder)
"""
FSYNC, FSYNC_FOLDER = "os.fsync(file.fileno())", "os.fsync(folder)"


@dataclass(frozen=True)
class Recorded:
    root: Path
    initial: Path
    operations: list[Operation]

    @property
    def states(self) -> list[State]:
        return list(crash_states(self.operations, self.initial))

    @property
    def states_at_end(self) -> list[State]:
        """After the last operation."""
        return list(crash_states(self.operations, self.initial, first=len(self.operations)))


RecordScript = Callable[..., Recorded]


@pytest.fixture
def record_script(tmp_path: Path) -> RecordScript:
    """Records a Python script in a folder with the given files, and checks that the record is complete."""
    if reason := why_not():
        pytest.skip(reason)

    def run(script: str, files: dict[str, bytes] | None = None, complete: bool = True) -> Recorded:
        root, initial = tmp_path / "root", tmp_path / "initial"
        for name, content in (files or {}).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        root.mkdir(exist_ok=True)
        shutil.copytree(root, initial)
        text = f"import os, sys\nos.chdir({str(root)!r})\n{script}"
        record([sys.executable, "-I", "-S", "-c", text], root, tmp_path / "log", os.environ)
        recorded = Recorded(root, initial, parse(tmp_path / "log", root))
        if complete:
            assert replay(recorded.operations, initial) == read_tree(root)
        return recorded

    return run


def contents(states: list[State], name: str) -> set[bytes | SymbolicLink | None]:
    return {state.tree.get(name, b"absent") for state in states}


def test_atomic_write_is_old_or_new_in_every_state(record_script: RecordScript) -> None:
    recorded = record_script(ATOMIC.format(fsync=FSYNC, fsync_folder=FSYNC_FOLDER), {"file": b"old"})
    assert contents(recorded.states, "file") == {b"old", b"new content"}
    assert [type(operation) for operation in recorded.operations] == [Create, Resize, Write, Sync, Rename, Sync]
    assert recorded.states[0].description == "after 0 of 6 (nothing), all"
    assert replay(recorded.operations, recorded.initial) == {"file": b"new content"}


def test_write_without_fsync_leaves_an_empty_a_torn_and_a_zeroed_file(record_script: RecordScript) -> None:
    recorded = record_script(ATOMIC.format(fsync="", fsync_folder=FSYNC_FOLDER), {"file": b"old"})
    assert contents(recorded.states, "file") == {b"old", b"new content", b"", b"new c", b"new c" + bytes(6)}
    empty = {state.kind for state in recorded.states if state.tree["file"] == b""}
    assert empty == {"entries first"}


def test_rename_without_fsync_of_the_folder_leaves_the_old_file_after_the_end(record_script: RecordScript) -> None:
    recorded = record_script(ATOMIC.format(fsync=FSYNC, fsync_folder=""), {"file": b"old"})
    assert contents(recorded.states, "file") == {b"old", b"new content"}
    assert {state.kind: state.tree for state in recorded.states_at_end} == {
        "all": {"file": b"new content"},
        "durable": {"file": b"old"},
        "one lost": {"file": b"old", "new.tmp": b"new content"},
    }


def test_appends_with_fsync_lose_at_most_the_last(record_script: RecordScript) -> None:
    script = """
file = os.open("log", os.O_WRONLY | os.O_APPEND)
for number in range(5):
    os.write(file, b"line %d\\n" % number)
    os.fsync(file)
"""
    recorded = record_script(script, {"log": b"start\n"})
    lines = [b"start\n", *(b"line %d\n" % number for number in range(5))]
    whole = {b"".join(lines[: count + 1]) for count in range(6)}
    torn = {b"".join(lines[:count]) + lines[count][:3] for count in range(1, 6)}
    zeroed = {text + bytes(4) for text in torn}
    assert contents(recorded.states, "log") == whole | torn | zeroed


def test_appends_without_fsync_lose_all_or_one_in_the_middle(record_script: RecordScript) -> None:
    script = """
file = os.open("log", os.O_WRONLY | os.O_APPEND)
for number in range(3):
    os.write(file, b"%d" % number * 4)
"""
    found = contents(record_script(script, {"log": b"start"}).states_at_end, "log")
    assert found == {
        b"start",
        b"start00001111",
        b"start000011112222",
        b"start0000111122",
        b"start0000111122" + bytes(2),
        b"start" + bytes(4) + b"11112222",
        b"start0000" + bytes(4) + b"2222",
    }


def test_sqlite_in_wal_mode_keeps_what_was_committed_in_every_state(
    record_script: RecordScript, tmp_path: Path
) -> None:
    script = """
import sqlite3
connection = sqlite3.connect("base.db")
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=FULL")
connection.execute("CREATE TABLE steps (number INTEGER)")
for number in range(3):
    connection.execute("INSERT INTO steps VALUES (?)", [number])
    connection.commit()
    os.mkdir(f"committed{number}")
connection.close()
"""
    recorded = record_script(script)
    assert mapped(recorded.operations) == []
    assert not any("-shm" in operation.text for operation in recorded.operations)
    for number, state in enumerate(recorded.states):
        folder = tmp_path / "states" / str(number)
        state.write(folder)
        committed = sum(name.startswith("committed") for name in state.tree)
        with closing(sqlite3.connect(folder / "base.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), state.description
            rows = connection.execute("SELECT number FROM steps").fetchall() if committed else []
        assert len(rows) >= committed, state.description
        shutil.rmtree(folder)


def test_threads_and_a_forked_child_share_descriptors_and_offsets(record_script: RecordScript) -> None:
    script = """
import subprocess, threading

def append(number):
    with open(f"thread{number}", "wb", buffering=0) as file:
        for line in range(20):
            file.write(b"%d:%d\\n" % (number, line))
            os.fsync(file.fileno())

threads = [threading.Thread(target=append, args=[number]) for number in range(3)]
for thread in threads:
    thread.start()
shared = os.open("shared", os.O_RDWR | os.O_CREAT)
os.write(shared, b"parent ")
if os.fork() == 0:
    os.write(shared, b"child ")
    os.dup2(shared, 40)
    os.close(shared)
    os.write(40, b"copy ")
    os._exit(0)
os.wait()
os.write(shared, b"parent again")
os.set_inheritable(shared, True)
subprocess.run(["/bin/sh", "-c", f"echo by the shell >&{shared}; mkdir inner; cd inner; echo deep > file"],
               pass_fds=[shared], check=True)
os.lseek(shared, 0, os.SEEK_SET)
os.read(shared, 3)
os.write(shared, b"ENT")
for thread in threads:
    thread.join()
"""
    recorded = record_script(script)
    assert replay(recorded.operations, None)["shared"] == b"parENT child copy parent againby the shell\n"
    assert replay(recorded.operations, None)["inner/file"] == b"deep\n"


def test_every_call_is_replayed_to_the_byte(record_script: RecordScript, tmp_path: Path) -> None:
    script = """
import shutil
with open("old", "r+b") as file:
    file.seek(2)
    file.write(b"\\x00\\"\\\\\\xff")
    file.truncate(7)
file = os.open("old", os.O_RDWR)
os.rename("old", "folder/moved")
os.pwrite(file, b"after the rename", 20)
os.writev(file, [b"one ", b"two"])
os.posix_fallocate(file, 0, 50)
os.pwritev(file, [b"x", b"y"], 3)
os.unlink("folder/moved")
os.write(file, b"to nobody")
os.close(file)
open("old", "wb").write(b"another")
shutil.copyfile("folder/kept", "copied")
source, target = os.open("folder/kept", os.O_RDONLY), os.open("ranged", os.O_WRONLY | os.O_CREAT)
os.copy_file_range(source, target, 4, offset_src=1)
os.link("folder/kept", "hard")
os.symlink("folder", "soft")
os.truncate("hard", 3)
open("soft/through", "wb").write(b"through a link")
os.mkdir("gone")
os.rmdir("gone")
inner = os.open("folder", os.O_RDONLY)
os.mkdir("relative", dir_fd=inner)
os.rename("kept", "relative/kept", src_dir_fd=inner, dst_dir_fd=inner)
os.rename("folder", "renamed")
os.chdir("renamed")
with open("relative/kept", "a+b") as file:
    file.write(b"end")
    file.seek(0)
    file.read(1)
    file.write(b"END")
os.makedirs("a/b/c")
shutil.rmtree("a")
"""
    recorded = record_script(script, {"old": b"0123456789", "folder/kept": b"kept"})
    state = recorded.states_at_end[0]
    state.write(tmp_path / "written")
    tree = read_tree(tmp_path / "written")
    assert (state.kind, state.tree) == ("all", tree)
    assert tree["hard"] == tree["renamed/relative/kept"] == b"kependEND"
    assert tree["soft"] == SymbolicLink("folder")
    assert {state.kind for state in recorded.states} == set(KINDS) - {"durable"}  # nothing was synced


RANDOM = """
import random
choose = random.Random(SEED)
folders, descriptors = ["."], []
for number in range(300):
    names = [f"{folder}/{name}" for folder in folders for name in "abc"]
    name, other = choose.choice(names), choose.choice(names)
    try:
        match choose.randrange(14):
            case 0 | 1:
                flags = [choose.choice([0, flag]) for flag in (os.O_APPEND, os.O_TRUNC, os.O_CREAT)]
                descriptors.append(os.open(name, os.O_RDWR | sum(flags)))
            case 2 | 3 | 4 if descriptors:
                os.write(choose.choice(descriptors), bytes([number % 256]) * choose.randrange(9))
            case 5 if descriptors:
                os.pwrite(choose.choice(descriptors), b"p" * 3, choose.randrange(30))
            case 6 if descriptors:
                os.lseek(choose.choice(descriptors), choose.randrange(9), choose.choice([os.SEEK_SET, os.SEEK_END]))
            case 7 if descriptors:
                os.read(choose.choice(descriptors), 4)
            case 8 if descriptors:
                os.ftruncate(choose.choice(descriptors), choose.randrange(20))
            case 9 if descriptors:
                choose.choice([os.fsync, os.fdatasync])(choose.choice(descriptors))
            case 10:
                os.rename(name, other)
            case 11:
                choose.choice([os.unlink, os.rmdir])(name)
            case 12:
                os.link(name, other)
            case 13:
                choose.choice([os.mkdir, lambda path: os.fsync(os.open(os.path.dirname(path), 0))])(name)
    except OSError:
        pass
    folders = [".", *(folder for folder in ("a", "b", "a/b", "c/a") if os.path.isdir(folder))]
"""


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_are_replayed_to_the_byte_and_all_durable_after_a_sync(
    record_script: RecordScript, seed: int
) -> None:
    recorded = record_script(RANDOM.replace("SEED", str(seed)), {"a/b": b"initial", "c": b"another"})
    assert len(recorded.operations) > 80
    assert len({state.kind for state in recorded.states}) >= 6
    synced = [*recorded.operations, Sync("sync", None, len(recorded.operations))]
    (state,) = crash_states(synced, recorded.initial, first=len(synced))
    assert state.tree == read_tree(recorded.root)


def test_folder_built_under_another_name_appears_whole_or_not_if_synced(record_script: RecordScript) -> None:
    script = """
def sync(path):
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)

os.mkdir(".building")
for name in ("one", "two"):
    with open(f".building/{name}", "wb") as file:
        file.write(name.encode() * 1000)
        file.flush()
        os.fsync(file.fileno())
SYNC
os.rename(".building", "final")
sync(".")
"""
    whole: Tree = {"final": None, "final/one": b"one" * 1000, "final/two": b"two" * 1000}
    recorded = record_script(script.replace("SYNC", "sync('.building')"), {"other": b""})
    finals = [state.tree for state in recorded.states if "final" in state.tree]
    assert finals == [{"other": b"", **whole}]
    shutil.rmtree(recorded.root)
    shutil.rmtree(recorded.initial)
    recorded = record_script(script.replace("SYNC", ""), {"other": b""})
    finals = [state.tree for state in recorded.states if "final" in state.tree]
    assert {"other": b"", "final": None} in finals
    assert {"other": b"", **whole} in finals


MOVES = {
    "into a new folder and back": """
os.mkdir("new")
os.rename("old/file", "new/file")
sync("new")
os.rename("new/file", "new/again")
os.rename("new/again", "file")
os.rename("file", "last")
sync(".")
""",
    "out of a folder that is removed": """
os.mkdir("new")
os.rename("old/file", "new/file")
os.rmdir("old")
sync(".")
os.mkdir("old")
""",
    "with its folder into a folder": """
os.mkdir("new")
os.mkdir("new/inner")
os.rename("old", "new/inner/old")
sync("new/inner")
os.rename("new/inner/old/file", "new/file")
os.rmdir("new/inner/old")
sync("new")
""",
    "by a link": """
os.link("old/file", "linked")
os.unlink("old/file")
os.rename("linked", "renamed")
""",
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES.keys())
def test_moved_file_has_the_old_or_the_new_name_in_every_state(record_script: RecordScript, moves: str) -> None:
    recorded = record_script(f"def sync(path):\n    os.fsync(os.open(path, 0))\n{moves}", {"old/file": b"content"})
    for state in recorded.states:
        count = list(state.tree.values()).count(b"content")
        assert count == 1 or (count == 2 and "link" in moves), state.description


def test_synchronous_descriptor_needs_no_fsync(record_script: RecordScript) -> None:
    script = "file = os.open('log', os.O_WRONLY | os.O_DSYNC)\nos.write(file, b'one')\nos.write(file, b'two')"
    recorded = record_script(script, {"log": b""})
    assert contents(recorded.states_at_end, "log") <= {b"onetwo"}
    assert b"two" not in contents(recorded.states, "log")


def test_shared_map_of_a_file_is_named(record_script: RecordScript) -> None:
    script = """
import mmap
with open("map", "r+b") as file:
    view = mmap.mmap(file.fileno(), 4)
    view[0] = 65
    view.flush()
with open("map", "rb") as file:
    mmap.mmap(file.fileno(), 4, access=mmap.ACCESS_READ)
"""
    recorded = record_script(script, {"map": b"0123"}, complete=False)
    assert mapped(recorded.operations) == ["map"]


def test_failing_command_is_an_error_with_its_output(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "root").mkdir()
    with pytest.raises(RecordingError, match=r"exit code 3, not 0: .*\nsaid so"):
        record(["/bin/sh", "-c", "echo said so; exit 3"], tmp_path / "root", tmp_path / "log", os.environ)
    record(["/bin/sh", "-c", "kill -9 $$"], tmp_path / "root", tmp_path / "log", os.environ, code=-9)
    with pytest.raises(RecordingError, match=r"must not be below"):
        record(["true"], tmp_path / "root", tmp_path / "root/log")


def test_rename_from_outside_is_refused(record_script: RecordScript) -> None:
    with pytest.raises(RecordingError, match=r"^inside comes by a rename from outside"):
        record_script("open('../outside', 'w').close()\nos.rename('../outside', 'inside')")


def test_interrupted_calls_are_joined_and_failed_ones_left_out(tmp_path: Path) -> None:
    def quoted(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    def opened(number: int, name: str) -> str:
        return f"{number}<{quoted(f'{tmp_path}/{name}')}>"

    pieces = f'[{{iov_base="{quoted("1, ")}", iov_len=3}}, {{iov_base="{quoted(chr(34))}", iov_len=1}}]'
    here = f"AT_FDCWD<{quoted('/')}>"
    lines = f"""
10 execve("{quoted("/bin/x")}", ["{quoted("x")}"], 0x7ffc /* 2 vars */) = 0
10 openat({here}, "{quoted("x/file")}", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = {opened(3, "file")}
10 clone3({{flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_THREAD, exit_signal=0}} <unfinished ...>
11 write({opened(3, "file")}, "{quoted("ab")}", 2 <unfinished ...>
10 <... clone3 resumed> => {{parent_tid=[11]}}, 88) = 11
10 fsync({opened(3, "file")} <unfinished ...>
11 <... write resumed>) = 2
10 <... fsync resumed>) = 0
11 write({opened(3, "file")}, "{quoted("lost")}", 4) = -1 ENOSPC (No space left on device)
11 pwrite64({opened(3, "file")}, "{quoted("xyz")}", 3, 7) = 2
10 close({opened(3, "file")} <unfinished ...>
11 openat({here}, "{quoted("x/other")}", O_RDWR|O_CREAT|O_APPEND, 0666) = {opened(3, "other")}
10 <... close resumed>) = 0
11 writev({opened(3, "other")}, {pieces}, 2) = 4
11 +++ exited with 0 +++
"""
    (tmp_path / "log").write_text(lines.lstrip())
    assert parse(tmp_path / "log", tmp_path) == [
        Create("create file", "", "file", "file", "file"),
        Write("write 2 bytes to file at 0", "file", 0, b"ab"),
        Sync("fsync file", "file", 1),  # what was written while it ran may have come too late
        Write("write 2 bytes to file at 7", "file", 7, b"xy"),
        Create("create other", "", "other", "other", "file"),
        Write("write 4 bytes to other at its end", "other", None, b'1, "'),
    ]


def test_write_that_a_kill_cut_off_is_refused(tmp_path: Path) -> None:
    path = "".join(f"\\x{byte:02x}" for byte in os.fsencode(tmp_path / "file"))
    (tmp_path / "log").write_text(
        f'10 openat(AT_FDCWD<\\x2f>, "{path}", O_WRONLY|O_CREAT, 0666) = 3<{path}>\n'
        f'10 write(3<{path}>, "\\x61", 1 <unfinished ...>) = ?\n10 +++ killed by SIGKILL +++\n'
    )
    with pytest.raises(RecordingError, match=r"^not known to have been done when its process ended: write\(3</"):
        parse(tmp_path / "log", tmp_path)


def test_states_of_500_operations_are_thousands() -> None:
    operations: list[Operation] = []
    for number in range(62):
        name = f"part{number}"
        operations += [Create("create", "", name, number, "file"), Write("write", number, 0, b"x" * 50_000)]
        operations += [Write("append", "log", None, b"line\n")] * 4
        operations += [Sync("sync", number, len(operations)), Rename("rename", "", name, "", f"whole{number}")]
    operations.insert(0, Create("create", "", "log", "log", "file"))
    count = sum(1 for _ in crash_states(operations, None))
    assert len(operations) == 497
    assert 3000 < count < 10 * len(operations)  # each costs a resume: they must not grow with the square
