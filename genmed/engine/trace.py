"""The trace: a header line, then a line of fingerprints a step. Two runs are the same if their traces are equal."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genmed.engine.learner import fingerprint_state
from genmed.engine.step import StepRecord
from genmed.ground.errors import RecordError, TraceError
from genmed.ground.files import storage_errors
from genmed.ground.fingerprints import digest_file, digest_json
from genmed.ground.tensor_fingerprints import DEVICE_ALGORITHM, TENSOR_ALGORITHM

FIELDS = ("samples", "input", "loss", "grad", "param", "buffer", "optim", "lr", "state")
"""Compared in this order: the first that differs names the first divergence."""

Line = dict[str, Any]


class TraceSink(Protocol):
    """Takes the lines of a training as they come."""

    @property
    def chain(self) -> str | None:
        """Of the last line; None where no trace is kept."""

    def record(self, step: StepRecord, state: str | None) -> None: ...

    def sync(self) -> None:
        """Puts what came on the disk; called from another thread."""


def make_header(initial: str, start: Line | None = None) -> Line:
    """initial: the state fingerprint before the first step. start: where another run's trace goes on in this one."""
    tensors = {"cpu": TENSOR_ALGORITHM, "device": f"{DEVICE_ALGORITHM}+{TENSOR_ALGORITHM}"}
    header = {"schema": 1, "tensors": tensors, "chain": "sha256", "initial": initial}
    return {**header, "start": start} if start else header


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


def state_of(line: Line) -> str:
    """The state fingerprint after a step, from the parts that its line holds."""
    parts = line["param"], line["buffer"], line["optim"]
    return fingerprint_state(*parts, float.fromhex(line["lr"]), line["epoch"], line["step"])


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
    """A trace as read from its file: as far as each line follows from those before it."""

    header: Line
    lines: Sequence[Line]
    ends: Sequence[int]
    """Where the header and each line end in the file, in bytes."""
    problem: str = ""
    """What is wrong behind the last whole line; empty for nothing."""
    torn: str = ""
    """Likewise, where it may be but a torn last line, which a crash leaves."""

    @property
    def start(self) -> int:
        """The step before the first line: 0 but for a run that continues another."""
        return int(self.header.get("start", {}).get("step", 0))

    @property
    def last(self) -> int:
        """The step of the last line."""
        return self.start + len(self.lines)

    def line(self, step: int) -> Line:
        return self.lines[step - self.start - 1]

    def chain_at(self, step: int) -> str:
        return str(self.line(step)["chain"]) if step > self.start else digest_json(self.header)

    def leads_to(self, step: int, chain: str | None) -> bool:
        """Whether it comes to the step by the same history as a state that was saved with the chain."""
        return self.start < step <= self.last and self.chain_at(step) == chain

    def end_of(self, step: int) -> int:
        """The length of the file up to and with the step's line."""
        return self.ends[step - self.start]


def read_whole_part(path: Path) -> RecordedTrace | None:
    """The trace up to the first line that is damaged; None where there is no whole header. Raises RecordError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:  # the disk itself may fail
        raise RecordError(f"{path} cannot be read: {error.strerror}") from error
    raw = content.splitlines(keepends=True)
    header = _parse(raw[0]) if raw else None
    if header is None or header.get("schema") != 1:
        return None
    lines: list[Line] = []
    ends = [len(raw[0])]
    trace = RecordedTrace(header, lines, ends)
    chain = digest_json(header)
    for number, text in enumerate(raw[1:], start=1):
        line = _parse(text)
        chain = digest_json([chain, {key: value for key, value in (line or {}).items() if key != "chain"}])
        if line is None or line.get("step") != trace.start + number or line.get("chain") != chain:
            if number == len(raw) - 1 and not text.endswith(b"\n"):
                return RecordedTrace(header, lines, ends, torn=f"its last line, {number + 1}, is torn")
            return RecordedTrace(header, lines, ends, f"line {number + 1} does not follow from the lines before it")
        lines.append(line)
        ends.append(ends[-1] + len(text))
    return trace


def _parse(line: bytes) -> Line | None:
    """None for a line that is torn or damaged."""
    try:
        document = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def read_trace(path: Path) -> RecordedTrace:
    """Reads and checks a trace; a torn last line, which a crash leaves, is dropped.

    Raises RecordError where the file is missing, has no header, or a line does not follow from those before it.
    """
    trace = read_whole_part(path)
    if trace is None and not path.exists():
        raise RecordError(f"no trace {path}", "the run was made with run.trace=false, or the file was removed")
    if trace is None:
        raise RecordError(f"{path} is damaged: it has no header of schema 1")
    if trace.problem:
        raise RecordError(f"{path} is damaged or was edited: {trace.problem}")
    return trace


def trace_digest(path: Path) -> str | None:
    """SHA-256 of the file; None where there is none."""
    return digest_file(path) if path.is_file() else None


class TraceFile:
    """Writes a trace. Steps that are in the file already are recomputed and must be equal: a free proof at resume."""

    def __init__(self, path: Path, header: Line, *, replace: bool = False, keep_header: bool = False) -> None:
        """Continues the file if there is one; otherwise begins it. What is damaged or torn at its end is cut off.

        replace: a step that is not the recorded one takes its place, with all that follows, instead of an error.
        keep_header: the recorded header stays though it is another. Else raises TraceError if a step is recorded: the
        state before the first step is not the recorded one.
        """
        self._path, self._replace = path, replace
        self.parted_at: int | None = None
        """The first step that took another's place."""
        known = read_whole_part(path)
        if known and not known.lines:  # no line vouches for its header
            known = None
        with storage_errors(path):
            if known is None:
                self._file = open(path, "wb", buffering=0)  # noqa: SIM115  closed by close()
                self._write(header)
                known = RecordedTrace(header, (), ())
            else:
                if known.header != header and not keep_header:
                    raise TraceError("the initial state is not the recorded one", "see `genmed env RUN`")
                os.truncate(path, known.ends[-1])
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._known = known
        self.chain: str | None = None

    def start_at(self, step: int) -> None:
        """Says that the next line is that of step + 1. Raises RecordError where the file ends before."""
        if step > self._known.last:
            raise RecordError(f"{self._path} ends at step {self._known.last}, the checkpoint is of step {step}")
        self.chain = self._known.chain_at(step)

    def record(self, step: StepRecord, state: str | None) -> None:
        assert self.chain is not None, "start_at comes first"
        line = make_line(step, state, self.chain)
        self.chain = line["chain"]
        if self.parted_at is None and step.step <= self._known.last:
            divergence = find_divergence(self._known.line(step.step), line)
            if divergence is None:
                return
            if not self._replace:
                raise TraceError(
                    f"step {step.step} (epoch {step.epoch}), computed again, has another {divergence.field} than"
                    " recorded",
                )
            self.parted_at = step.step
            with storage_errors(self._path):
                os.truncate(self._path, self._known.end_of(step.step - 1))
        self._write(line)

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

    chain = None
    parted_at = None

    def start_at(self, step: int) -> None:
        pass

    def record(self, step: StepRecord, state: str | None) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass
