"""Real genmed processes for tests, forked from a server that has imported torch and computed nothing: 0.1 s a start.

The server was started with the variables that a strict run with seed 42 and 2 threads asks for, so that such runs need
no restart of the interpreter; others restart, as they do for a user.
"""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint import list_checkpoints
from genmed.ground.fingerprints import digest_file, digest_json
from genmed.ground.interpreter import list_variables, prepare_environment
from genmed.ground.sealed import write_sealed

SEED, THREADS = 42, 2
TINY_MODEL = f"{Path(__file__).parent / 'models' / 'tiny.py'}:build"


@dataclass(frozen=True)
class Result:
    """What a finished command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """A genmed process under way."""

    def __init__(self, process: ForkServerProcess, files: tuple[Path, Path]) -> None:
        self._process, self._files = process, files

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._files[1].read_text() if self._files[1].exists() else ""

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> Result:
        """Its end. Raises TimeoutError after killing it."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(f"still running after {timeout} s:\n{self._files[1].read_text()}")
        assert self._process.exitcode is not None
        return Result(self._process.exitcode, *(path.read_text() for path in self._files))


class Genmed:
    """Starts genmed commands with one root and one image cache."""

    def __init__(self, context: ForkServerContext, folder: Path, cache: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(exist_ok=True)
        self.cache = cache
        self._context, self._folder, self._count = context, folder, 0
        self.environ = {
            "GENMED_ROOT": str(self.root),
            "GENMED_CACHE": str(cache),
            "GENMED_COMPUTE__THREADS": str(THREADS),
            "GENMED_RUN__REPORT": "false",  # thousands of tiny runs; tests/reporting asks for it
        }

    def start(
        self, *arguments: object, cwd: Path | None = None, first: Callable[[], None] | None = None, **environ: str
    ) -> Command:
        """first: what the process does before it becomes genmed."""
        self._count += 1
        files = self._folder / f"out-{self._count}", self._folder / f"err-{self._count}"
        texts = [str(argument) for argument in arguments]
        place = str(cwd or self._folder)
        process = self._context.Process(
            target=_run_command, args=(texts, place, {**self.environ, **environ}, files, first)
        )
        process.start()
        return Command(process, files)

    def __call__(self, *arguments: object, cwd: Path | None = None, **environ: str) -> Result:
        """Runs a command to its end in a forked process."""
        return self.start(*arguments, cwd=cwd, **environ).wait()

    def fresh(self, *arguments: object, cwd: Path | None = None, **environ: str) -> Result:
        """Runs a command to its end as a user's shell would: a new interpreter."""
        done = subprocess.run(
            [sys.executable, "-m", "genmed", *map(str, arguments)],
            cwd=cwd or self._folder,
            env={**own_environment(), **self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def copied_to(self, folder: Path) -> "Genmed":
        """The same with a copy of all runs, which a test may change."""
        shutil.copytree(self.root, folder / "root", dirs_exist_ok=True)
        return Genmed(self._context, folder, self.cache)

    def run_folder(self, reference: str | None = None) -> Path:
        """The folder of the only run, or of the named one."""
        folders = [path for path in sorted((self.root / "runs").iterdir()) if reference in (None, path.name)]
        assert len(folders) == 1, folders
        return folders[0]


def edit_document(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a sealed JSON document, and seals it anew."""
    document = json.loads(path.read_text())
    del document["seal"]
    change(document)
    write_sealed(path, document)


def forge_trace(run: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Changes lines of the trace (the header is the first) and puts right whatever tells that it was changed."""
    path = run / "trace.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    chain = digest_json(lines[0])
    for line in lines[1:]:
        del line["chain"]
        chain = line["chain"] = digest_json([chain, line])
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    for folder in list_checkpoints(run / "checkpoints"):
        state = json.loads((folder / "state.json").read_text())
        state["trace"]["chain"] = lines[state["trace"]["step"]]["chain"]
        (folder / "state.json").write_text(json.dumps(state))
        digest = {"state.json": digest_file(folder / "state.json")}
        edit_document(folder / "manifest.json", lambda manifest, digest=digest: manifest["files"].update(digest))
    digest_again(run)


def digest_again(run: Path) -> None:
    """Puts right what run.json says of the files that the run left."""

    def change(document: dict[str, Any]) -> None:
        document["trace_digest"] = digest_file(run / "trace.jsonl")
        document["files"] = {name: digest_file(run / name) for name in document["files"] if (run / name).is_file()}

    edit_document(run / "run.json", change)


def start_server() -> ForkServerContext:
    """The context whose server has the variables of `list_variables` and has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.server_preload"])
    before = dict(os.environ)
    variables = list_variables(SEED, THREADS, "native", True)
    os.environ.update(prepare_environment(variables, own_environment(), beside=True))
    try:
        process = context.Process(target=time.sleep, args=(0,))
        process.start()
        process.join()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def own_environment() -> dict[str, str]:
    """Without what a developer's shell may have set for genmed; the image cache is the tests' own (conftest.py)."""
    return {name: value for name, value in os.environ.items() if name == "GENMED_CACHE" or name[:7] != "GENMED_"}


def _run_command(
    arguments: list[str],
    cwd: str,
    environ: dict[str, str],
    files: tuple[Path, Path],
    first: Callable[[], None] | None = None,
) -> None:
    """In the forked process: becomes `python -m genmed ARGUMENTS`."""
    if first:
        first()
    for number, path in ((1, files[0]), (2, files[1])):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.update(environ)
    sys.argv = ["genmed", *arguments]
    sys.orig_argv = [sys.executable, "-m", "genmed", *arguments]

    from genmed.cli import main

    main()
