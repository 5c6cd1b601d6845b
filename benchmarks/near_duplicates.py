"""How far apart the hashes of different radiographs are, and of a radiograph and its altered copies; what they cost.

    uv run python benchmarks/near_duplicates.py [../shared/data/nih1000] [--images 112120]

The folder holds images/ and Data_Entry_2017_v2020.csv, as NIH's do. Distances are in thousandths: the least, some
quantiles and the largest of each kind, and the share that `NEAR` reports. Crops and markers are cut from an image
enlarged to 256 px, if it is smaller. Then: the seconds of hashing a noisy image of 1024 px and of decoding its PNG, and
of a search through `--images` random hashes (0: none).
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from genmed.parts.data.duplicates import DIFFERENCES, HASH_BITS, NEAR, find_near, hash_image, unpack
from genmed.parts.data.images import read_image
from genmed.parts.data.records import Pixels

QUANTILES = {"least": 0.0, "0.00001": 1e-5, "0.001": 1e-3, "median": 0.5, "0.99": 0.99, "0.999": 0.999, "most": 1.0}


def save_jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def alter(pixels: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return alter


def shrink(share: float, back: bool = True) -> Callable[[Pixels], Pixels]:
    def alter(pixels: Pixels) -> Pixels:
        height, width = pixels.shape
        small = Image.fromarray(pixels).resize((round(width * share), round(height * share)), Image.Resampling.BILINEAR)
        return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR) if back else small)

    return alter


def map_greys(function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Callable[[Pixels], Pixels]:
    table = np.clip(np.rint(function(np.arange(256.0))), 0, 255).astype(np.uint8)
    return lambda pixels: table[pixels]


def enlarge(pixels: Pixels) -> Pixels:
    height, width = pixels.shape
    scale = max(1, 256 / min(height, width))
    image = Image.fromarray(pixels).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    return np.asarray(image)


def crop_border(share: float) -> Callable[[Pixels], Pixels]:
    def alter(pixels: Pixels) -> Pixels:
        large = enlarge(pixels)
        rows, columns = (round(side * share) for side in large.shape)
        return large[rows : large.shape[0] - rows, columns : large.shape[1] - columns]

    return alter


def add_marker(pixels: Pixels) -> Pixels:
    large = enlarge(pixels).copy()
    side = round(min(large.shape) * 12 / 512)
    large[side : 2 * side, side : 2 * side] = 255
    return large


ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG, quality 75": save_jpeg(75),
    "JPEG, quality 40": save_jpeg(40),
    "half the size": shrink(0.5, back=False),
    "half the size and back": shrink(0.5),
    "3/4 of the size and back": shrink(0.75),
    "contrast x 0.8": map_greys(lambda grey: grey * 0.8),
    "brightness + 20": map_greys(lambda grey: grey + 20),
    "gamma 0.8": map_greys(lambda grey: 255 * (grey / 255) ** 0.8),
    "white marker, 12 of 512 px": add_marker,
    "negative": map_greys(lambda grey: 255 - grey),
    "0.5% of each border cropped": crop_border(0.005),
    "1% of each border cropped": crop_border(0.01),
    "2% of each border cropped": crop_border(0.02),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).parents[2] / "shared" / "data" / "nih1000"
    parser.add_argument("folder", type=Path, nargs="?", default=beside)
    parser.add_argument("--images", type=int, default=112_120)
    chosen = parser.parse_args()
    with (chosen.folder / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        patient_of = {row["Image Index"]: row["Patient ID"] for row in csv.DictReader(file)}
    paths = sorted(path for path in (chosen.folder / "images").iterdir() if path.name in patient_of)
    images = [read_image(path).pixels for path in paths]
    patients = np.array([patient_of[path.name] for path in paths])
    print(f"{len(images)} images of {len(set(patients))} patients, {HASH_BITS} bits, near: at most {NEAR}")
    print("\t".join([f"{'pairs':32}", "number", *QUANTILES, "reported"]))

    signs = hash_signs(images)
    distances = measure(signs, signs)
    pairs = np.triu(np.ones(distances.shape, dtype=bool), 1)
    same = patients[:, None] == patients[None]
    show("two patients", distances[pairs & ~same])
    show("one patient", distances[pairs & same])
    for name, alter in ALTERED.items():
        show(name, np.diag(measure(signs, hash_signs([alter(image) for image in images]))))
    time_hashing()
    if chosen.images:
        random = np.random.default_rng(0).integers(0, 2, (chosen.images, DIFFERENCES), dtype=np.uint8)
        hashes = np.packbits(np.concatenate([random, 1 - random], axis=1), axis=1)
        start = time.perf_counter()
        assert find_near(hashes) == []
        print(f"search through {chosen.images} hashes, all pairs\t{time.perf_counter() - start:.1f} s")
    return 0


def hash_signs(images: list[Pixels]) -> npt.NDArray[np.int64]:
    return unpack(np.stack([hash_image(image) for image in images])).astype(np.int64)


def measure(some: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Thousandths, (N, M): the distance of `find_near`, a negative's too."""
    both = np.count_nonzero(some, axis=1)[:, None] + np.count_nonzero(others, axis=1)[None]
    products = some.astype(np.float32) @ others.astype(np.float32).T
    return np.ceil(1000 * (both - 2 * np.abs(products.astype(np.int64))) / both)


def show(name: str, distances: npt.NDArray[np.float64]) -> None:
    if len(distances):
        figures = [f"{np.quantile(distances, share, method='inverted_cdf'):.0f}" for share in QUANTILES.values()]
        print("\t".join([f"{name:32}", str(len(distances)), *figures, f"{np.mean(distances <= NEAR):.2%}"]), flush=True)


def time_hashing(times: int = 20) -> None:
    """Prints seconds an image of 1024 px: smooth, with noise of a few grey levels, as a radiograph's PNG is."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 120, 1024), np.linspace(0, 120, 1024))
    file = io.BytesIO()
    Image.fromarray((smooth + rng.normal(4, 1, smooth.shape)).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    seconds = {"decode": 0.0, "hash": 0.0}
    for _ in range(times):
        start = time.perf_counter()
        pixels = np.asarray(Image.open(io.BytesIO(file.getvalue())))
        middle = time.perf_counter()
        hash_image(pixels)
        seconds["decode"] += (middle - start) / times
        seconds["hash"] += (time.perf_counter() - middle) / times
    ratio = seconds["hash"] / seconds["decode"]
    print(f"1024 px: decode {1000 * seconds['decode']:.1f} ms, hash {1000 * seconds['hash']:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    sys.exit(main())
