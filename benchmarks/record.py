"""Runs a benchmark and puts what it prints into RESULTS.md, under its command: so each number has its command.

    uv run python benchmarks/record.py benchmarks/trace_cost.py --model resnet50

What the same command printed before is replaced; a command that fails leaves the file as it is.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
SECTION = re.compile(r"^### `(?P<command>[^`]+)`\n.*?(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    shown = " ".join(["python", *sys.argv[1:]])
    done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    if done.returncode:
        return done.returncode
    section = f"### `{shown}`\n\n{datetime.now(UTC):%Y-%m-%d}\n\n```text\n{done.stdout.rstrip()}\n```\n\n"
    RESULTS.write_text(put(RESULTS.read_text(), shown, section))
    return 0


def put(document: str, command: str, section: str) -> str:
    """The section in its command's place, or at the end."""
    for found in SECTION.finditer(document):
        if found["command"] == command:
            return document[: found.start()] + section + document[found.end() :]
    return document.rstrip() + "\n\n" + section


if __name__ == "__main__":
    sys.exit(main())
