"""Thousands of files of every kind, each spoiled at a random place: what the readers of datasets make of them.

    uv run python benchmarks/reader_storm.py [--files 6000] [--seed 0]

Bits are flipped, blocks cut, inserted, repeated, zeroed or swapped. Printed, by kind of file: how many were spoiled,
refused with the file's name, read, and wrong. Exit code 1 if anything is wrong: another exception, a refusal without
the name, more than 10 s, pixels that a checksum would have told, or labels that a second reading does not find.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' makers of files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    from tests.datasets.mutating import READ, REFUSED, make_cases, mutate

    draw = random.Random(chosen.seed)
    start, failed, totals = time.monotonic(), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        cases = make_cases(Path(name))
        print(f"{'kind':<26}{'spoiled':>9}{'refused':>9}{'read':>7}{'wrong':>7}")
        for kind, case in cases.items():
            counts: Counter[str] = Counter()
            for _ in range(-(-chosen.files // len(cases))):
                outcome = case(lambda content: mutate(content, draw))
                counts[outcome if outcome in (READ, REFUSED) else "wrong"] += 1
                if outcome not in (READ, REFUSED):
                    print(f"  {kind}: {outcome}")
            print(f"{kind:<26}{counts.total():>9}{counts[REFUSED]:>9}{counts[READ]:>7}{counts['wrong']:>7}")
            totals.update(counts)
            failed += counts["wrong"]
    print(f"{'all':<26}{totals.total():>9}{totals[REFUSED]:>9}{totals[READ]:>7}{totals['wrong']:>7}")
    print(f"{time.monotonic() - start:.0f} s, seed {chosen.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
