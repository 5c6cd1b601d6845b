"""One flipped bit, or a cut, at a random place of a file."""

import random
from pathlib import Path

KINDS = {
    "checkpoint": "runs/*/checkpoints/*/*",
    "index": "runs/*/data-images.csv",
    "JSON": "runs/*/*.json",
    "trace": "runs/*/trace.jsonl",
    "registry": "registry.db",
    "cached pixels": "images/*/pixels.u8",
    "cached digests": "images/*/digests.json",
    "stamps": "stamps/*.json",
}
"""What is looked for below the root, and below the image cache."""


def spoil(root: Path, cache: Path, kind: str, draw: random.Random, cut: bool | None = None) -> tuple[Path, str]:
    """Damages one file of the kind; returns it, and what was done. cut: or a flip; three in ten unless given."""
    path = draw.choice([path for folder in (root, cache) for path in sorted(folder.glob(KINDS[kind]))])
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    if not (draw.random() < 0.3 if cut is None else cut):
        bit = draw.randrange(8)
        content[place] ^= 1 << bit
        what = f"bit {bit} of byte {place} flipped"
    else:
        del content[place:]
        what = f"cut at byte {place}"
    path.write_bytes(content)
    return path, what
