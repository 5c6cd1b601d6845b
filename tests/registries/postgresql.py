"""A real PostgreSQL server of a test's own: in a folder of its own, on loopback, stopped when the tests are over."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

OWNERS = ("postgres", "nobody")
"""Of whom one runs the server where the tests run as root, for whom it refuses to run."""
PROGRAMS = ("initdb", "pg_ctl", "postgres")
IN_GERMAN_ORDER = ["--locale-provider=icu", "--icu-locale=de-DE"]
"""So that text is not ordered by its bytes unless it is asked for; before PostgreSQL 15 initdb does not know it."""
USER = "genmed"
GUARDED = "guarded"
"""The name of a user who has to give a password; a test makes it."""
QUICK = ["-c", "fsync=off", "-c", "full_page_writes=off"]


WATCH = 'cat; "$1" --pgdata "$2" --mode immediate --wait stop >/dev/null 2>&1; rm -rf "$3"'


class MissingServerError(Exception):
    """There are no programs to start one."""


class Server:
    """A server that was made and started. durable: it syncs each commit to the disk, as a real one does."""

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = find_programs()
        self._owner = next((name for name in OWNERS if _exists(name)), None) if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="genmed-pg-"))
        if self._owner:
            shutil.chown(self.folder, self._owner)
        self._data, self._numbers, self._ready = self.folder / "data", count(1), False
        self._watcher = self._watch()
        plain = ["--pgdata", self._data, "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync"]
        if self._run("initdb", *plain, *IN_GERMAN_ORDER, check=False):
            self._run("initdb", *plain, "--locale", "C.UTF-8")
        hba = self._data / "pg_hba.conf"
        hba.write_text(f"host all {GUARDED} all scram-sha-256\n{hba.read_text()}")
        self.port = _find_port()
        places = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        options = [word for place in places for word in ("-c", place)] + ([] if durable else QUICK)
        self._options = ["--options", " ".join(options), "--log", self.folder / "log", "--pgdata", self._data, "--wait"]
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", *self._options, "start")

    def stop(self) -> None:
        """As if it had crashed."""
        self._run("pg_ctl", "--pgdata", self._data, "--mode", "immediate", "--wait", "stop")

    def restart(self) -> None:
        """As after a crash: connections break, and what was committed is found again."""
        self._run("pg_ctl", *self._options, "--mode", "immediate", "restart")

    def turn_away(self) -> None:
        """Starts it anew so that it answers and takes no connections, as while it starts up or shuts down."""
        self.stop()
        (self._data / "standby.signal").touch()
        self._run("pg_ctl", "--pgdata", self._data, "--log", self.folder / "log", "--no-wait", "--options",
                  f"{self._options[1]} -c hot_standby=off", "start")  # fmt: skip

    def take_in(self) -> None:
        """As it was before `turn_away`."""
        (self._data / "standby.signal").unlink()
        self.restart()

    @property
    def runs(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def close(self) -> None:
        """As if this process had ended."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()

    def _watch(self) -> "subprocess.Popen[bytes]":
        """A process that stops the server and removes its folder when this one ends, however it does."""
        words = ["sh", "-c", WATCH, "watch", self._programs / "pg_ctl", self._data, self.folder]
        return subprocess.Popen(words, stdin=subprocess.PIPE, cwd="/", start_new_session=True, **_become(self._owner))

    def url(self, database: str = "postgres", user: str = USER, password: str = "") -> str:
        who = f"{user}:{password}" if password else user
        return f"postgresql+psycopg://{who}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What the last one gives."""
        import psycopg

        found: list[tuple[object, ...]] = []
        place = f"host=127.0.0.1 port={self.port} user={USER} dbname={database}"
        with psycopg.connect(place, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
        return found

    def make_blank(self) -> str:
        """The URL of a new database without a table."""
        name = f"blank{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def make_registry(self) -> str:
        """The URL of a new database with an empty registry: a copy of one, which takes a tenth of making it."""
        if not self._ready:
            from genmed.records.registry import open_place, parse_place

            self.execute("CREATE DATABASE ready TEMPLATE template0")
            open_place(parse_place(self.url("ready"), ""), create=True)
            self._ready = True
        name = f"registry{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE ready")
        return self.url(name)

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        # Nobody reads a pipe to the server, which holds it for as long as it lives.
        with open(self.folder / "told", "wb") as told:
            done = subprocess.run(
                [self._programs / program, *map(str, arguments)],
                stdout=told,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                check=False,
                **_become(self._owner),
            )
        if check and done.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'told').read_text()}")
        return done.returncode


def find_programs() -> Path:
    """The folder of the server's programs. Raises MissingServerError."""
    for folder in _list_folders():
        if all((folder / program).is_file() for program in PROGRAMS):
            return folder
    raise MissingServerError(f"no PostgreSQL server here ({', '.join(PROGRAMS)}): `apt install postgresql` brings it")


def _list_folders() -> Sequence[Path]:
    folders = []
    if tool := shutil.which("pg_config"):
        told = subprocess.run([tool, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        folders.append(Path(told))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if tool := shutil.which("pg_ctl"):
        folders.append(Path(tool).resolve().parent)
    return folders


def _become(owner: str | None) -> dict[str, object]:
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []} if owner else {}


def _exists(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
