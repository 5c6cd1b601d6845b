"""The trace: a header line, then a line of fingerprints a step. Two runs are the same if their traces are equal."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genmed.engine.step import StepRecord
from genmed.ground.errors import RecordError, TraceError
from genmed.ground.files import storage_errors
from genmed.ground.fingerprints import DEVICE_ALGORITHM, TENSOR_ALGORITHM, digest_file, digest_json

FIELDS = ("samples", "input", "loss", "grad", "param", "buffer", "optim", "lr", "state")
"""Compared in this order: the first that differs names the first divergence."""

Line = dict[str, Any]


class TraceSink(Protocol):
    """Takes the lines of a training as they come."""

    def record(self, step: StepRecord, state: str | None) -> None: ...

    def sync(self) -> None: ...


def make_header(initial: str) -> Line:
    """`initial`: the state fingerprint before the first step."""
    tensors = {"cpu": TENSOR_ALGORITHM, "device": f"{DEVICE_ALGORITHM}+{TENSOR_ALGORITHM}"}
    return {"schema": 1, "tensors": tensors, "chain": "sha256", "initial": initial}


def make_line(step: StepRecord, state: str | None, chain_before: str) -> Line:
    """A step's line; `chain` digests all lines so far, so that equal chains mean equal histories."""
    line: Line = {
        "step": step.step,
        "epoch": step.epoch,
        "samples": step.samples,
        "input": list(step.input),
        "loss": [value.hex() for value in step.loss],
        "grad": step.grad,
        "param": step.param,
        "buffer": step.buffer,
        "optim": step.optim,
        "lr": step.lr.hex(),
    }
    if state is not None:
        line["state"] = state
    return {**line, "chain": digest_json([chain_before, line])}


@dataclass(frozen=True)
class Divergence:
    """Where two traces part first."""

    step: int
    epoch: int
    field: str


def find_divergence(recorded: Line, found: Line) -> Divergence | None:
    """The first field in which two lines of one step differ; None if they are equal."""
    for field in FIELDS:
        if recorded.get(field) != found.get(field):
            return Divergence(found["step"], found["epoch"], field)
    return None


@dataclass(frozen=True)
class RecordedTrace:
    """A trace as read from its file, checked to be whole."""

    header: Line
    lines: Sequence[Line]
    whole_bytes: int
    """Length of the file without a torn last line."""

    def chain_at(self, step: int) -> str:
        return str(self.lines[step - 1]["chain"]) if step else digest_json(self.header)


def read_trace(path: Path) -> RecordedTrace:
    """Reads and checks a trace; a torn last line, which a crash leaves, is dropped.

    Raises RecordError where the file is missing, has no header, or a line does not follow from those before it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(
            f"no trace {path}", "the run was made with run.trace=false, or the file was removed"
        ) from None
    whole = content[: content.rfind(b"\n") + 1]
    try:
        documents = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from None
    if not documents or not isinstance(documents[0], dict) or documents[0].get("schema") != 1:
        raise RecordError(f"{path} has no header of schema 1")
    header, lines = documents[0], documents[1:]
    chain = digest_json(header)
    for number, line in enumerate(lines, start=1):
        content_of = {key: value for key, value in line.items() if key != "chain"} if isinstance(line, dict) else {}
        chain = digest_json([chain, content_of])
        if content_of.get("step") != number or line.get("chain") != chain:
            raise RecordError(f"{path} was edited: line {number + 1} does not follow from the lines before it")
    return RecordedTrace(header, lines, len(whole))


def trace_digest(path: Path) -> str | None:
    """SHA-256 of the file; None where there is none."""
    return digest_file(path) if path.is_file() else None


class TraceFile:
    """Writes a trace. Steps that are in the file already are recomputed and must be equal: a free proof at resume."""

    def __init__(self, path: Path, header: Line) -> None:
        """Continues the file if there is one with the same header; otherwise begins it.

        Raises RecordError, or TraceError where the state before the first step is not the recorded one.
        """
        self._path = path
        self._known: Sequence[Line] = ()
        with storage_errors(path):
            if path.exists() and b"\n" in path.read_bytes():
                recorded = read_trace(path)
                if recorded.header != header:
                    raise TraceError("the initial state is not the recorded one", "see `genmed env RUN`")
                self._known = recorded.lines
                os.truncate(path, recorded.whole_bytes)
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115  closed by close()
            else:
                self._file = open(path, "wb", buffering=0)  # noqa: SIM115
                self._write(header)
        self._header = header
        self._chain: str | None = None

    def start_at(self, step: int) -> None:
        """Says that the next line is that of step + 1. Raises RecordError where the file ends before."""
        if step > len(self._known):
            raise RecordError(f"{self._path} ends at step {len(self._known)}, the checkpoint is of step {step}")
        self._chain = str(self._known[step - 1]["chain"]) if step else digest_json(self._header)

    def record(self, step: StepRecord, state: str | None) -> None:
        assert self._chain is not None, "start_at comes first"
        line = make_line(step, state, self._chain)
        self._chain = line["chain"]
        if step.step > len(self._known):
            self._write(line)
        elif divergence := find_divergence(self._known[step.step - 1], line):
            raise TraceError(
                f"step {step.step} (epoch {step.epoch}), computed again, has another {divergence.field} than recorded",
                "see `genmed env RUN` for what changed; the run is left as it was",
            )

    def sync(self) -> None:
        """Puts the trace on the disk: before a checkpoint that counts on it."""
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _write(self, line: Line) -> None:
        content = memoryview((json.dumps(line, separators=(",", ":")) + "\n").encode())
        with storage_errors(self._path):
            while content:  # unbuffered, so that nothing is left to be written when the file is closed
                content = content[self._file.write(content) :]


class NoTrace:
    """For runs without a trace."""

    def record(self, step: StepRecord, state: str | None) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass
