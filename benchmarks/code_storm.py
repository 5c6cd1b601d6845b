"""Random edits in the code that a run used, each to be found and named; and untouched code, never to be accused.

    uv run python benchmarks/code_storm.py [--edits 40] [--clean 200] [--seed 0]

A model of a file that imports two files beside it (one imports the other), a file that is imported late, a package on
the import path, a package that was installed from a folder, one that was installed from an index, and a file that is
read. One run of it was killed and one is finished. Each edit changes one file in one random way in a copy of
everything; then a real `genmed resume` of the killed run has to refuse and name the file, and `genmed verify` of the
finished one has to list it among the causes. Then the untouched runs are resumed and verified over and over: the
resumed run has to end in the trace of the finished one, the verdict to be `identical` without any cause. Printed: a row
a kind of edit. Exit code 1 if an edit was missed, or untouched code was accused.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forks processes that have imported torch

from tests.harness import Genmed, start_server
from tests.make_nih import make_nih
from tests.user_code import SOURCES, Desk, copy_desk, install_from_folder, put

CODE = sorted({name for name in SOURCES if "dist-info" not in name} - {"site/timmy/__init__.py"})
FOLDER_CODE = "site/dirnets/__init__.py"
LATEST = 2_000_000_000.0
"""A time of change in seconds: Python tells its compiled copy by size and time."""


class Edit:
    """One random edit in a copy of everything."""

    def __init__(self, desk: Desk, draw: random.Random) -> None:
        self.desk, self.draw = desk, draw

    def _write(self, name: str, text: str) -> str:
        path = self.desk.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        os.utime(path, (LATEST, LATEST))
        return name.partition("/")[2]

    def _pick(self) -> tuple[str, str]:
        name = self.draw.choice([*CODE, FOLDER_CODE])
        return name, (self.desk.folder / name).read_text()

    def comment(self) -> str:
        name, text = self._pick()
        return self._write(name, f"{text}# {self.draw.random()}\n" if name.endswith(".py") else f"{text}\n")

    def one_character(self) -> str:
        """Of the same size; the code may not even run any more."""
        name, text = self._pick()
        place = self.draw.randrange(len(text)) if text else 0
        return self._write(name, f"{text[:place]}{chr(ord(text[place]) ^ 1) if text else '#'}{text[place + 1 :]}")

    def line_taken_out(self) -> str:
        name, text = self._pick()
        lines = text.splitlines(keepends=True) or ["\n", "\n"]
        lines.pop(self.draw.randrange(len(lines)))
        return self._write(name, "".join(lines) or "\n\n")

    def file_gone(self) -> str:
        name = self.draw.choice([name for name in CODE if name != "work/net.py"])
        (self.desk.folder / name).unlink()
        return name.partition("/")[2]

    def module_in_its_place(self) -> str:
        """A file beside the model takes the place of a package of that name."""
        name = self.draw.choice(["timmy", "dirnets"])
        source = (self.desk.folder / "site" / name / "__init__.py").read_text()
        return self._write(f"work/{name}.py", source)

    def other_version(self) -> str:
        path = self.desk.folder / "site" / "timmy-1.0.31.dist-info" / "METADATA"
        path.write_text(path.read_text().replace("1.0.31", f"1.0.{self.draw.randrange(30)}"))
        return "packages.timmy"

    def other_source(self) -> str:
        commit = f"{self.draw.randrange(16**8):08x}"
        told = {"url": "https://example.org/timmy", "vcs_info": {"vcs": "git", "commit_id": commit}}
        (self.desk.folder / "site" / "timmy-1.0.31.dist-info" / "direct_url.json").write_text(json.dumps(told))
        return "package_sources.timmy"


KINDS = (
    "comment",
    "one_character",
    "line_taken_out",
    "file_gone",
    "module_in_its_place",
    "other_version",
    "other_source",
)


def prepare(folder: Path, data: Path, context: object) -> Desk:
    """The killed run, in a folder of its own, and the finished one."""
    put(folder, SOURCES)
    install_from_folder(folder, "dirnets", "def scale(scores):\n    return scores * 1.0\n")
    network = (folder / "work" / "net.py").read_text()
    (folder / "work" / "net.py").write_text(network.replace("import timmy\n", "import timmy\nimport dirnets\n"))
    desk = Desk(Genmed(context, folder, data.parent / "cache"), folder)  # type: ignore[arg-type]
    command = ["train", "--dataset", "nih", "--data-root", data, "--image-size", "16", "--model", "net.py:build"]
    command += ["--epochs", "4", "--batch-size", "8", "--set", "run.code_files=size.txt", "--json"]
    killed = desk(*command, GENMED_TEST_AT="16", GENMED_TEST_SIGNAL=str(int(signal.SIGKILL)))
    assert killed.code == -signal.SIGKILL, killed.err
    desk.run.rename(folder / "killed")
    finished = desk(*command)
    assert finished.code == 0, finished.err
    return desk


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=40)
    parser.add_argument("--clean", type=int, default=200, help="resumes, and as many verifications")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw, counts, missed = random.Random(chosen.seed), {kind: Counter[str]() for kind in KINDS}, 0
    with tempfile.TemporaryDirectory(prefix="genmed-code-") as name:
        prepared = prepare(Path(name) / "desk", make_nih(Path(name) / "nih"), start_server())
        for number in range(chosen.edits):
            kind = KINDS[number % len(KINDS)]
            place = Path(name) / f"edit-{number}"
            desks = [copy_desk(prepared, place / which, killed=which == "killed") for which in ("killed", "finished")]
            state = draw.getstate()
            for desk in desks:  # the same edit in both
                draw.setstate(state)
                what = getattr(Edit(desk, draw), kind)()
            refused = desks[0]("resume", "latest", "--json")
            verdict = desks[1]("verify", "latest", "--json")
            causes = [entry["what"] for entry in verdict.json.get("cause", ())]
            by_resume = refused.code == 2 and what in refused.json["error"]["message"]
            by_verify = any(cause in (what, f"code.files.{what}") for cause in causes)
            counts[kind].update(edits=1, resume=int(by_resume), verify=int(by_verify))
            if not (by_resume and by_verify):
                missed += 1
                print(f"missed: {kind} of {what}: {refused.json} {causes}", file=sys.stderr)
            shutil.rmtree(place)
            print(f"\r{number + 1} of {chosen.edits} edits", end="", file=sys.stderr)
        print(file=sys.stderr)
        trace = json.loads((prepared.run / "run.json").read_text())["trace_digest"]
        alarms = 0
        for number in range(chosen.clean):
            desk = copy_desk(prepared, Path(name) / "clean", killed=True)
            resumed = desk("resume", "latest", "--json")
            quiet = resumed.code == 0 and (resumed.json["trace_digest"], resumed.json["accepted"]) == (trace, [])
            verified = desk("verify", "latest", "--json").json
            alarms += not (quiet and (verified["verdict"], verified["cause"]) == ("identical", []))
            shutil.rmtree(desk.folder)
            print(f"\r{number + 1} of {chosen.clean} clean", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("\t".join(["edit", "made", "named by resume", "named by verify"]))
    total = sum(counts.values(), Counter[str]())
    for kind, count in [*counts.items(), ("all", total)]:
        print("\t".join([kind.replace("_", " "), *(str(count[column]) for column in ("edits", "resume", "verify"))]))
    print(f"clean resumes and verifications\t{chosen.clean}\tfalse alarms\t{alarms}")
    return int(missed > 0 or alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
