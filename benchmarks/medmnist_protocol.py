"""MedMNIST's protocol to its end, on a file in PneumoniaMNIST's format made of genmed's own phantoms.

    python benchmarks/medmnist_protocol.py FOLDER [--epochs N]

Writes FOLDER/pneumoniamnist.npz (effusion or not; 120, 50 and 100 patients; 28 px) and trains below FOLDER by the
config `medmnist`: 100 epochs of `resnet18_small` are 10 to 15 minutes on two cores. The last lines are the figures that
docs/RESULTS.md shows.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from genmed.parts.data.datasets.phantom import draw_image, load_records
from genmed.records.config import Config

SIDE = 28
PATIENTS = {"train": slice(0, 120), "val": slice(120, 170), "test": slice(170, 270)}
POSITIVE = "Effusion"


def write_file(folder: Path) -> None:
    """In the layout of MedMNIST's own: uint8 images (N, 28, 28), labels (N, 1)."""
    records = load_records(folder, Config())
    patients = sorted(set(records.patients))
    labels = records.labels[:, [records.classes.index(POSITIVE)]].astype(np.uint8)
    arrays = {}
    for side, chosen in PATIENTS.items():
        of_side = set(patients[chosen])
        rows = [row for row, patient in enumerate(records.patients) if patient in of_side]
        images = [Image.fromarray(np.asarray(draw_image(row)).squeeze()) for row in rows]
        small = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) for image in images]
        arrays |= {f"{side}_images": np.stack(small), f"{side}_labels": labels[rows]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "pneumoniamnist.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    write_file(asked.folder)
    protocol = ["--config", "medmnist", "--data-root", str(asked.folder), "--root", str(asked.folder)]
    length = [] if asked.epochs == 100 else ["--epochs", str(asked.epochs)]
    subprocess.run([sys.executable, "-m", "genmed", "train", *protocol, *length], check=True)


if __name__ == "__main__":
    main()
