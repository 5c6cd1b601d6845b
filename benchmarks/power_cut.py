"""Every state that a power cut may leave of a short training: does `genmed resume` end with the same bits?

    uv run python benchmarks/power_cut.py [--every 1]

The training runs under strace; a model of a file system then gives the states (`tests/power_cut/states.py`): for each
prefix of the operations what was not synced is there, lost, torn, or zeros, or one operation alone is lost. Each state
is resumed by a real process. Printed: outcomes by kind. Exit code 1 if any is not `same bits` or `nothing existed`.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forks processes that have imported torch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try only each so-many-th state")
    every = parser.parse_args().every
    from tests.harness import TINY_MODEL, Genmed, start_server
    from tests.make_nih import make_nih
    from tests.power_cut.training import record_training, try_state

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_nih(folder / "nih")
        how = ["--dataset", "nih", "--data-root", data, "--image-size", 16, "--model", TINY_MODEL, "--batch-size", 8]
        command = ["train", *how, "--epochs", 2, "--set", "checkpoints.every_steps=3", "--json"]
        server = start_server()
        warm = folder / "warm"
        warm.mkdir()
        Genmed(server, warm, folder / "cache")(*command)
        genmed = Genmed(server, folder, folder / "cache")
        recorded = record_training(command, genmed, folder)
        print(f"{len(recorded.operations)} operations on files of one training of 14 steps and 6 checkpoints")
        outcomes: Counter[tuple[str, str]] = Counter()
        states = list(recorded.states())[::every]
        for number, state in enumerate(states, start=1):
            outcome = try_state(state, recorded, genmed)
            if outcome not in ("same bits", "nothing existed"):
                print(f"{state.description}: {outcome}")
                outcome = "WRONG"
            outcomes[state.kind, outcome] += 1
            print(f"\r{number} of {len(states)} states", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("kind\tstates\tsame bits\tnothing existed\tWRONG")
    for kind in dict.fromkeys(kind for kind, _ in outcomes):
        counts = [outcomes[kind, outcome] for outcome in ("same bits", "nothing existed", "WRONG")]
        print("\t".join(map(str, [kind, sum(counts), *counts])))
    return int(any(outcome == "WRONG" for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
