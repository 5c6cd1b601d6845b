"""SIGKILL at random moments, resume, and again until the run ends: are bits lost?

    uv run python benchmarks/kill_storm.py [--kills 100] [--seed 0] [--model resnet18_small] [--image-size 16]

Each run is trained with dropout or BatchNorm, augmentation, SGD with momentum, a schedule and a checkpoint each second
step, with 0, 1 or 2 loader workers in turn. A real process gets a real SIGKILL at a moment drawn from the time that a
run takes; then `genmed resume` goes on and gets its own. Printed: a row a number of workers. Bits lost: whether trace,
final state, predictions or metrics differ in any from those of the run left alone. Exit code 1 if so.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forks processes that have imported torch

COLUMNS = (
    "runs",
    "kills",
    "while a checkpoint was written",
    "before the first checkpoint",
    "resumes",
    "steps computed again",
    "runs with bits lost",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=None, help="a network with dropout and BatchNorm unless given")
    parser.add_argument("--image-size", type=int, default=16)
    chosen = parser.parse_args()
    from tests.harness import TINY_MODEL, Genmed, start_server
    from tests.make_nih import make_nih
    from tests.resuming.runs import read_metrics

    def read_result(folder: Path) -> tuple[object, ...]:
        document = json.loads((folder / "run.json").read_text())
        assert document["status"] == "completed", document["status"]
        files = [(folder / name).read_bytes() for name in ("trace.jsonl", "predictions.csv")]
        return document["fingerprint"], document["metrics"], *files, read_metrics(folder)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_nih(folder / "nih", patients=120)
        how = ["--dataset", "nih", "--data-root", data, "--image-size", chosen.image_size, "--batch-size", 8]
        how += ["--model", chosen.model or TINY_MODEL, "--epochs", 3, "--augmentation", "standard"]
        how += ["--optimizer", "sgd", "--schedule", "multistep", "--set", "checkpoints.every_steps=2", "--json"]
        server = start_server()
        whole = Genmed(server, folder, folder / "cache")
        assert whole("train", *how).code == 0
        begin = time.monotonic()
        assert whole("train", *how).code == 0
        seconds = time.monotonic() - begin
        first, second = (read_result(path) for path in sorted((whole.root / "runs").iterdir()))
        assert first == second
        steps = len(first[2].splitlines()) - 1  # type: ignore[attr-defined]
        print(f"a run left alone: {steps} steps, {seconds:.1f} s", file=sys.stderr)
        draw = random.Random(chosen.seed)
        counts: dict[int, Counter[str]] = {workers: Counter() for workers in (0, 1, 2)}
        kills = number = 0
        while kills < chosen.kills:
            workers = number % 3
            count = counts[workers]
            number += 1
            place = folder / f"run-{number}"
            place.mkdir()
            genmed = Genmed(server, place, folder / "cache")
            command: list[object] = ["train", *how, "--num-workers", workers]
            while True:
                process = genmed.start(*command)
                time.sleep(draw.uniform(0.1, seconds))
                if process.running and kills < chosen.kills:
                    process.send(signal.SIGKILL)
                result = process.wait()
                if result.code == 0:
                    break
                assert result.code == -signal.SIGKILL, result.err
                kills += 1
                print(f"\r{kills} kills", end="", file=sys.stderr)
                runs = [path for path in genmed.root.glob("runs/[!.]*") if (path / "run.json").exists()]
                count["kills"] += 1
                if not runs:
                    continue  # it was not born yet
                checkpoints = [path.name for path in runs[0].glob("checkpoints/*")]
                count["while a checkpoint was written"] += any(path.startswith(".tmp-") for path in checkpoints)
                whole_ones = sorted(path for path in checkpoints if path.startswith("step-"))
                count["before the first checkpoint"] += not whole_ones
                trace = runs[0] / "trace.jsonl"
                done = len(trace.read_bytes().splitlines()) - 1 if trace.exists() else 0
                at = int(whole_ones[-1].split("-")[1]) if whole_ones else 0
                count["steps computed again"] += max(0, done - at)
                count["resumes"] += 1
                command = ["resume", "latest", "--json"]
            count["runs"] += 1
            [folder_of_run] = genmed.root.glob("runs/[!.]*")
            count["runs with bits lost"] += read_result(folder_of_run) != first
    print(file=sys.stderr)
    print("\t".join(["workers", *COLUMNS]))
    for workers, count in counts.items():
        print("\t".join(map(str, [workers, *(count[column] for column in COLUMNS)])))
    total = sum(counts.values(), Counter())
    print("\t".join(map(str, ["all", *(total[column] for column in COLUMNS)])))
    return int(total["runs with bits lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
