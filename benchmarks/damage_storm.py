"""One flipped bit or a cut at random places of all that a killed run consists of: found, named, and what comes then.

    uv run python benchmarks/damage_storm.py [--places 200] [--seed 0]

Each place is damaged in a copy of a run that was killed between two checkpoints, and of its image cache; then a real
process resumes it. Printed: outcomes by kind of file. Exit code 1 if anything ends with other bits, or is refused
without naming the file.

    named, same bits        the file was named, and the run ended with the bits of one left alone
    named, rebuilt          likewise after `genmed list --rebuild`
    named, refused          exit 2 with the file named: what it held is nowhere else
    no effect               unused space in a page of the registry: `list` tells the same as before, and same bits
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forks processes that have imported torch

OUTCOMES = ("named, same bits", "named, rebuilt", "named, refused", "no effect", "WRONG")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    from tests.harness import Genmed, start_server
    from tests.make_nih import make_nih
    from tests.resuming.damage import KINDS, spoil
    from tests.resuming.runs import FRAGILE

    def resume(genmed: Genmed, whole: dict[str, object], path: Path) -> str:
        result = genmed("resume", "latest", "--json", GENMED_CACHE=str(genmed.cache))
        if result.code == 0:
            if any(result.json[key] != whole[key] for key in ("fingerprint", "trace_digest", "metrics")):
                return f"WRONG: other bits: {result.err}"
            return "named, same bits" if str(path) in result.err else "no effect"
        error = result.json["error"]
        if result.code != 2 or str(path) not in error["message"]:
            return f"WRONG: {result.out} {result.err}"
        if "list --rebuild" in error["hint"]:
            assert genmed("list", "--rebuild", "--json").code == 0
            return "named, rebuilt" if resume(genmed, whole, path) != "WRONG" else "WRONG"
        return "named, refused"

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fragile.py").write_text(FRAGILE)
        data = make_nih(folder / "nih")
        how = ["--dataset", "nih", "--data-root", data, "--image-size", 16, "--model", f"{folder / 'fragile.py'}:build"]
        often = ["--set", "checkpoints.every_steps=3", "--set", "checkpoints.keep=2"]
        command = ["train", *how, "--epochs", 3, "--batch-size", 8, *often, "--json"]
        server = start_server()
        runs = []
        for part in ("whole", "killed"):
            (folder / part).mkdir()
            runs.append(Genmed(server, folder / part, folder / "cache"))
        whole = runs[0](*command).json
        assert runs[1](*command, GENMED_TEST_PASSES="13", GENMED_TEST_AWAIT="9").code == -signal.SIGKILL
        listed = runs[1]("list", "--json").out
        draw = random.Random(chosen.seed)
        outcomes: Counter[tuple[str, str]] = Counter()
        for number in range(chosen.places):
            place = folder / "place"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            genmed = Genmed(server, place, Path(shutil.copytree(folder / "cache", place / "cache")))
            shutil.copytree(runs[1].root, genmed.root, dirs_exist_ok=True)
            kind = list(KINDS)[number % len(KINDS)]
            path, what = spoil(genmed.root, genmed.cache, kind, draw)
            unseen = kind == "registry" and genmed("list", "--json").out == listed
            outcome = resume(genmed, whole, path)
            if outcome == "no effect" and not unseen:
                outcome = "WRONG: it had an effect that was not told"
            if outcome.startswith("WRONG"):
                print(f"{path.name}, {what}: {outcome}")
            elif outcome == "no effect":
                print(f"{path.name}, {what}: no effect")
            outcomes[kind, outcome.partition(":")[0]] += 1
            print(f"\r{number + 1} of {chosen.places} places", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("\t".join(["file", "places", *OUTCOMES]))
    for kind in KINDS:
        counts = [outcomes[kind, outcome] for outcome in OUTCOMES]
        print("\t".join(map(str, [kind, sum(counts), *counts])))
    return int(any(outcome == "WRONG" for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
