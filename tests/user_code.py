"""A user's model of many files and packages, and genmed with the import path that the user's shell would give it."""

import json
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.harness import Genmed, Result

NETWORK = """
import os
import signal
from pathlib import Path

import blocks
import lab.units
import timmy
import torch
from torch import nn

GROUPS = int((Path(__file__).parent / "size.txt").read_text())


class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.GroupNorm(GROUPS, 8), blocks.make_activation())
        self.head = nn.Linear(8, num_classes)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, images):
        self.passes += self.training
        if self.passes == int(os.environ.get("GENMED_TEST_AT", -1)):
            os.kill(os.getpid(), int(os.environ["GENMED_TEST_SIGNAL"]))
        scores = self.head(self.features(images).mean((2, 3)))
        if self.passes > 4:
            import late
            scores = late.scale(scores)
        return lab.units.scale(timmy.scale(scores))


def build(num_classes):
    return Network(num_classes)
"""
SOURCES = {
    "work/net.py": NETWORK,
    "work/blocks.py": "import shapes\nfrom torch import nn\n\n\ndef make_activation():\n    return nn.ReLU()\n",
    "work/shapes.py": "SIDE = 3\n",
    "work/late.py": "def scale(scores):\n    return scores * 1.5\n",
    "work/size.txt": "4\n",
    "path/lab/__init__.py": "",
    "path/lab/units.py": "def scale(scores):\n    return scores * 0.5\n",
    "site/timmy/__init__.py": "def scale(scores):\n    return scores * 1.0\n",
    "site/timmy-1.0.31.dist-info/METADATA": "Metadata-Version: 2.1\nName: Timmy\nVersion: 1.0.31\n",
    "site/timmy-1.0.31.dist-info/RECORD": "timmy/__init__.py,,\ntimmy-1.0.31.dist-info/METADATA,,\n",
}
RECORDED = {"net.py", "blocks.py", "shapes.py", "late.py", "size.txt", "lab/__init__.py", "lab/units.py"}


@dataclass(frozen=True)
class Desk:
    """A folder with a user's files, and genmed with the import path that the user's shell would give it."""

    genmed: Genmed
    folder: Path

    def __call__(self, *arguments: object, path: tuple[str, ...] = ("path", "site"), **environ: str) -> Result:
        first = partial(extend_path, [str(self.folder / name) for name in path])
        return self.genmed.start(*arguments, cwd=self.folder / "work", first=first, **environ).wait()

    @property
    def run(self) -> Path:
        return self.genmed.run_folder()

    def code(self) -> dict[str, Any]:
        return dict(json.loads((self.run / "environment.json").read_text())["code"])


def extend_path(folders: list[str]) -> None:
    sys.path.extend(folders)


def put(folder: Path, sources: dict[str, str]) -> None:
    for name, text in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def copy_desk(prepared: Desk, folder: Path, *, killed: bool) -> Desk:
    """The run with the user's files in other folders, as after a move."""
    folder.mkdir(parents=True)
    for name in ("work", "path", "site"):
        shutil.copytree(prepared.folder / name, folder / name)
    runs = folder / "root" / "runs"
    source = prepared.folder / "killed" if killed else prepared.run
    name = json.loads((source / "run.json").read_text())["name"]
    shutil.copytree(source, runs / name)
    config = runs / name / "config.yaml"
    config.write_text(config.read_text().replace(str(prepared.folder), str(folder)))
    return Desk(Genmed(prepared.genmed._context, folder, prepared.genmed.cache), folder)


def install_from_folder(folder: Path, name: str, source: str) -> None:
    """A package below `site`, as `pip install FOLDER` leaves it."""
    told = {"url": f"file://{folder}/source-of-{name}", "dir_info": {}}
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n"
    files = {"METADATA": metadata, "RECORD": f"{name}/__init__.py,,\n", "direct_url.json": json.dumps(told)}
    put(folder, {f"site/{name}-2.0.dist-info/{file}": text for file, text in files.items()})
    put(folder, {f"site/{name}/__init__.py": source})
