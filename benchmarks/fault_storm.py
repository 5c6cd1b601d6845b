"""Single faults at random places, each to be found and rightly placed; and clean runs, none to be accused.

    uv run python benchmarks/fault_storm.py [--faults 200] [--clean 1000] [--seed 0]

One recorded run (28 steps, states kept after 4, 7, 8, 12, ...) is copied, one fault is put into the copy, into a copy
of its data, or into the process that verifies it, and a real `genmed verify` runs. Rightly placed: the image, the file,
the step and the field of the trace, the module, or the field of the environment that was touched is what is named.
Printed: a row a kind. Then the untouched run is verified over and over. Exit code 1 if a fault was missed or misplaced,
or a clean verification was anything but identical.
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' harness forks processes that have imported torch

Check = Callable[[dict[str, Any]], bool]
STEPS = 28
TENSORS = {"0.weight": 216, "1.weight": 8, "1.bias": 8, "8.weight": 112, "8.bias": 14}
BUFFERS = {"1.running_mean": 8, "1.running_var": 8}
FIELDS = ("samples", "input", "loss", "grad", "param", "buffer", "optim")
PACKAGES = ("torch", "torchvision", "numpy", "pillow")
EDITS = {"seed": "43", "lr": "0.002", "batch_size": "16", "val_ratio": "0.3", "label_smoothing": "0.1", "threads": "1"}


class Fault:
    """One fault: what it does to copies of run and data, or to the process; and how to tell that it was found."""

    def __init__(self, run: Path, data: Path, draw: random.Random) -> None:
        self.run, self.data, self.draw = run, data, draw
        self.environ: dict[str, str] = {}

    def pick_image(self) -> str:
        return self.draw.choice(sorted(path.name for path in (self.data / "images").iterdir()))

    def pixel(self) -> Check:
        return self._change_pixels([self.pick_image()])

    def pixel_behind_its_stamp(self) -> Check:
        return self._change_pixels([self.pick_image()], keep_stamp=True)

    def same_pixel_of_two_images(self) -> Check:
        return self._change_pixels(self.draw.sample(sorted(p.name for p in (self.data / "images").iterdir()), 2))

    def _change_pixels(self, images: list[str], keep_stamp: bool = False) -> Check:
        from tests.verifying.faults import change_pixel

        place = self.draw.randrange(24), self.draw.randrange(24)
        change_pixel(self.data, *images, place=place, keep_stamp=keep_stamp)
        return self._names_items({f"pixels of {image}" for image in images})

    def label(self) -> Check:
        from tests.verifying.faults import change_label

        image = self.pick_image()
        change_label(self.data, image, self.draw.choice(("Pneumonia", "Edema|Fibrosis", "Nodule")))
        return self._names_items({f"labels of {image}"})

    def _names_items(self, items: set[str]) -> Check:
        return lambda report: (
            report["verdict"] == "not comparable" and {entry["what"] for entry in report["cause"]} == items
        )

    def config(self) -> Check:
        key = self.draw.choice(sorted(EDITS))
        path = self.run / "config.yaml"
        path.write_text(re.sub(rf"^( *{key}:) \S+", rf"\1 {EDITS[key]}", path.read_text(), flags=re.MULTILINE))
        return self._names_problem(rf"config\.yaml was edited: [\w.]*\b{key} was")

    def byte_of_the_trace(self) -> Check:
        path = self.run / "trace.jsonl"
        content = bytearray(path.read_bytes())
        content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(7)
        path.write_bytes(content)
        return self._names_problem(r"trace\.jsonl")

    def byte_of_a_checkpoint(self) -> Check:
        path = self.draw.choice(sorted(self.run.glob("checkpoints/*/*.safetensors")))
        content = bytearray(path.read_bytes())
        content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(8)
        path.write_bytes(content)
        return self._names_problem(re.escape(f"{path.parent.name}/{path.name} fails its digest"))

    def checkpoints_swapped(self) -> Check:
        first, second = self.draw.sample(sorted(self.run.glob("checkpoints/step-*")), 2)
        first.rename(self.run / "aside")
        second.rename(first)
        (self.run / "aside").rename(second)
        return self._names_problem(f"({first.name}|{second.name}) is not what it is called")

    def _names_problem(self, pattern: str) -> Check:
        return lambda report: (
            report["verdict"] == "not comparable" and re.search(pattern, report["problems"][0]) is not None
        )

    def package_in_the_record(self) -> Check:
        from tests.harness import edit_document

        package = self.draw.choice(PACKAGES)
        edit_document(self.run / "environment.json", lambda document: document["packages"].update({package: "0.9"}))
        return lambda report: (
            report["verdict"] == "identical"
            and [(entry["what"], entry["recorded"]) for entry in report["cause"]] == [(f"packages.{package}", "0.9")]
        )

    def threads(self) -> Check:
        self.environ["GENMED_TEST_THREADS"] = "1"
        return self._names_cause("threads.intra_op")

    def instruction_set(self) -> Check:
        self.environ["GENMED_TEST_ISA"] = self.draw.choice(("SSE41", "AVX"))
        return self._names_cause("cpu.onednn_isa_in_effect")

    def _names_cause(self, what: str) -> Check:
        return lambda report: report["verdict"] != "not comparable" and report["cause"][0]["what"] == what

    def forged_field(self) -> Check:
        """In a record that is consistent throughout, but for a state that was kept after the step, if one was."""
        from tests.harness import forge_trace

        step, field = self.draw.randint(2, STEPS), self.draw.choice(FIELDS)
        forge_trace(self.run, lambda lines: lines[step].update({field: lines[step - 1][field]}))
        kept = list(self.run.glob(f"checkpoints/step-{step:07d}-*"))
        if kept and field in ("param", "buffer", "optim"):
            return self._names_problem(f"is not the state to which the trace comes at step {step}$")
        return self._is_placed(step, field)

    def parameter_bit(self) -> Check:
        return self._disturb("bit", TENSORS, 1)

    def same_bit_of_two_weights(self) -> Check:
        return self._disturb("bit", TENSORS, 2)

    def weights_swapped(self) -> Check:
        return self._disturb("swap", TENSORS, 2)

    def buffer_bit(self) -> Check:
        return self._disturb("bit", BUFFERS, 1)

    def _disturb(self, fault: str, tensors: dict[str, int], count: int) -> Check:
        tensor, step = self.draw.choice(sorted(tensors)), self.draw.randint(1, STEPS)
        places = self.draw.sample(range(tensors[tensor]), count)
        self.environ = {
            "GENMED_TEST_FAULT": fault,
            "GENMED_TEST_STEP": str(step),
            "GENMED_TEST_TENSOR": tensor,
            "GENMED_TEST_PLACES": ",".join(map(str, places)),
            "GENMED_TEST_BIT": str(1 << self.draw.randrange(23) if fault == "bit" else 1),
        }
        return self._is_placed(step, "buffer" if tensors is BUFFERS else "param")

    def _is_placed(self, step: int, field: str) -> Check:
        def check(report: dict[str, Any]) -> bool:
            found = report["first_divergence"]
            compared = report["steps_compared"]
            return report["verdict"] == "diverged" and (found["step"], found["field"], compared) == (step, field, step)

        return check

    def layer_that_reads_the_clock(self) -> Check:
        self.environ["GENMED_TEST_FAULT"] = "noise"
        return self._names_module("3", repeats=False)

    def layer_with_other_arithmetic(self) -> Check:
        self.environ["GENMED_TEST_FAULT"] = "other arithmetic"
        return self._names_module("4", repeats=True)

    def _names_module(self, module: str, repeats: bool) -> Check:
        return lambda report: (
            report["verdict"] == "diverged"
            and report["first_divergence"]["module"] == module
            and report["localisation"]["repeats"] is repeats
        )


KINDS = [name for name, value in vars(Fault).items() if callable(value) and not name.startswith(("_", "pick"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--clean", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    from tests.harness import Genmed, start_server
    from tests.make_nih import make_nih
    from tests.verifying.faults import OFTEN, SABOTAGED

    draw = random.Random(chosen.seed)
    counts = {kind: Counter[str]() for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sabotaged.py").write_text(SABOTAGED)
        data = make_nih(folder / "nih")
        recorded = Genmed(start_server(), folder, folder / "cache")
        how = ["--dataset", "nih", "--data-root", data, "--image-size", 16, "--batch-size", 8, "--epochs", 4]
        result = recorded("train", *how, "--model", f"{folder / 'sabotaged.py'}:build", "--trace-modules", *OFTEN)
        assert result.code == 0, result.err
        for number in range(chosen.faults):
            kind = KINDS[number % len(KINDS)]
            place = folder / "place"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            genmed = Genmed(recorded._context, place, Path(shutil.copytree(folder / "cache", place / "cache")))
            shutil.copytree(recorded.root, genmed.root, dirs_exist_ok=True)
            copied = Path(shutil.copytree(data, place / "nih"))
            fault = Fault(genmed.run_folder(), copied, draw)
            check = getattr(fault, kind)()
            answer = genmed("verify", "latest", "--json", "--data-root", copied, **fault.environ)
            report = json.loads(answer.out)
            placed = "verdict" in report and check(report)
            counts[kind].update(["faults", *(["found"] if _is_found(report) else []), *(["placed"] if placed else [])])
            if not placed:
                print(f"{kind}, {fault.environ}: {answer.out}{answer.err}", file=sys.stderr)
            print(f"\r{number + 1} of {chosen.faults} faults", end="", file=sys.stderr)
        alarms = 0
        for number in range(chosen.clean):
            answer = recorded("verify", "latest", "--json")
            alarms += (answer.code, json.loads(answer.out).get("verdict")) != (0, "identical")
            print(f"\r{number + 1} of {chosen.clean} clean verifications, {alarms} alarms", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("\t".join(["fault", "put", "found", "rightly placed"]))
    total = sum(counts.values(), Counter[str]())
    for kind, count in [*counts.items(), ("all", total)]:
        print("\t".join([kind.replace("_", " "), *(str(count[column]) for column in ("faults", "found", "placed"))]))
    print(f"clean verifications\t{chosen.clean}\tfalse alarms\t{alarms}")
    return int(total["placed"] < chosen.faults or alarms > 0)


def _is_found(report: dict[str, Any]) -> bool:
    """Whether anything was said at all."""
    return report.get("verdict") != "identical" or bool(report["cause"])


if __name__ == "__main__":
    sys.exit(main())
