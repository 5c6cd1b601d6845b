"""The states that a power cut may leave of a short training, and what `genmed resume` makes of each."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genmed.ground.interpreter import list_variables, prepare_environment
from tests.harness import SEED, THREADS, Genmed, own_environment
from tests.power_cut.operations import Operation, mapped
from tests.power_cut.recording import parse, record
from tests.power_cut.states import State, crash_states, read_tree, replay


@dataclass(frozen=True)
class Recorded:
    """A training that ended well, and what it did to its root."""

    fingerprint: str
    trace: bytes
    operations: list[Operation]

    def states(self) -> Iterator[State]:
        return crash_states(self.operations, None)

    @property
    def begun(self) -> int:
        """How many operations were done when the trace was begun: from then on the run has to be there."""
        return next(number for number, entry in enumerate(self.operations) if "trace.jsonl" in entry.text)


def record_training(arguments: list[object], genmed: Genmed, folder: Path) -> Recorded:
    """Runs `genmed ARGUMENTS` in the empty root below `genmed`, traced; its image cache is warm and lies elsewhere."""
    variables = list_variables(SEED, THREADS, "native", True)
    environ = {**prepare_environment(variables, own_environment()), **genmed.environ}
    command = [sys.executable, "-m", "genmed", *map(str, arguments)]
    record(command, genmed.root, folder / "strace.log", environ)
    operations = parse(folder / "strace.log", genmed.root)
    assert mapped(operations) == []
    assert replay(operations, None) == read_tree(genmed.root), "the record is not complete"
    run = genmed.run_folder()
    document = json.loads((run / "run.json").read_text())
    assert document["status"] == "completed"
    return Recorded(document["fingerprint"], (run / "trace.jsonl").read_bytes(), operations)


def try_state(state: State, recorded: Recorded, genmed: Genmed) -> str:
    """What comes of resuming in the state: `same bits`, `nothing existed`, or what went wrong."""
    shutil.rmtree(genmed.root)
    state.write(genmed.root)
    born = [path for path in genmed.root.glob("runs/*/run.json") if not path.parent.name.startswith(".")]
    result = genmed("resume", "latest", "--json")
    if result.code == 2 and result.json["error"]["kind"] == "RunNotFoundError" and not born:
        return "nothing existed" if state.number <= recorded.begun else "the run is lost"
    if result.code:
        return f"exit code {result.code}: {result.out} {result.err}"
    same = result.json["fingerprint"] == recorded.fingerprint
    same = same and (genmed.root / result.json["path"] / "trace.jsonl").read_bytes() == recorded.trace
    return "same bits" if same else "other bits"
