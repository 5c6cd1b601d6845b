"""Makes a small dataset in the layout of NIH ChestX-ray14."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
FINDINGS = ("Effusion", "Mass", "Hernia")


def make_nih(root: Path, patients: int = 40, size: int = 24) -> Path:
    """Noise images; a finding brightens its own quarter, so that there is something to learn."""
    (root / "images").mkdir(parents=True)
    lines = [HEADER]
    random = np.random.Generator(np.random.Philox(7))
    for patient in range(1, patients + 1):
        for follow_up in range(1 + patient % 3 + patient % 2):
            name = f"{patient:08d}_{follow_up:03d}.png"
            present = [
                finding for position, finding in enumerate(FINDINGS) if (patient + follow_up) % (position + 2) == 0
            ]
            pixels = random.integers(60, 140, (size, size))
            for finding in present:
                row, column = divmod(FINDINGS.index(finding), 2)
                half = size // 2
                pixels[row * half : (row + 1) * half, column * half : (column + 1) * half] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / name)
            labels = "|".join(present) or "No Finding"
            lines.append(f"{name},{labels},{follow_up},{patient},58,M,PA,{size},{size},0.143,0.143")
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines) + "\n")
    return root
