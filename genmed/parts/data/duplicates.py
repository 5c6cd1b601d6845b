"""Near-duplicates: the same image saved anew, resized, brightened, marked or turned to its negative.

All chest radiographs look alike to the usual hash of 64 bits, and those of one patient still do to 256. So the
hash is longer and has a third value: brighter, darker, or no difference worth the name, where other hashes take the
noise of a black background for a pattern. Only integers are compared, so a hash is the same on every CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CELLS = 16
"""Differences a row and a column of the grid. Of 8, 11, 12, 14, 16, 18 and 20, this keeps images of two patients
furthest from altered copies (2.2 times the furthest copy), and those of one patient still further than any copy."""
DIFFERENCES = 2 * CELLS * CELLS
HASH_BITS = 2 * DIFFERENCES
"""Two bits for each difference: it is clearly positive, it is clearly negative."""
NEAR = 100
"""Thousandths. Of 1,000 NIH radiographs (64 px, 264 patients) the nearest two of one patient are at 109, the nearest
of two patients at 212; copies (JPEG of quality 40, half the size and back, gamma 0.8, marker) at 97 at most. Cropped by
1% at each border, 97 of 100 are found, by 2%, 32: see benchmarks/near_duplicates.py. Mirrored or turned copies are not
looked for. The same images served to choose the limit."""
LEAST_DIFFERENCES = DIFFERENCES // 4  # radiographs have 311 to 460 of 512; with few, all images are alike
LUMA = (5, 9, 2)  # sixteenths of red, green and blue: as good as 0.299, 0.587, 0.114 for a comparison, and no overflow
STRIP = 256  # rows of pixels at a time, as float64
BLOCK_ROWS, BLOCK_COLUMNS = 1024, 2048  # hashes against hashes at a time: 8 MB of products

Hashes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearGroup:
    """Images that are linked by near pairs, if need be over others of the group."""

    members: tuple[int, ...]
    """Rows of the hashes, ascending; two or more."""
    furthest: int
    """The largest distance of a linked pair, in thousandths; 0 where all hashes are equal."""
    negative: bool
    """Some pair is near only if one of the two is inverted."""


def hash_image(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Hashes:
    """(HASH_BITS // 8,) uint8: where neighbouring cells of a 17 x 17 grid differ, and which of them is brighter.

    pixels: (H, W) or (H, W, 3), H and W at most 20,000. Does not change with contrast, brightness or depth (a scale and
    a shift) short of rounding and clipping. All zeros where the image has no structure: see `is_flat`.
    The difference hash of N. Krawetz, "Kind of like that" (2013), in both directions and with a margin: differences up
    to a quarter of the image's mean difference count as none.
    """
    assert pixels.dtype in (np.uint8, np.uint16), pixels.dtype
    assert pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3), pixels.shape
    if pixels.ndim == 3:
        cells = np.sum([sum_cells(pixels[:, :, c]) * weight for c, weight in enumerate(LUMA)], axis=0)
    else:
        cells = sum_cells(pixels)
    rightward = cells[:-1, 1:] - cells[:-1, :-1]
    downward = cells[1:, :-1] - cells[:-1, :-1]
    differences = np.concatenate([rightward.ravel(), downward.ravel()])
    margin = np.abs(differences).sum()  # 4 * DIFFERENCES times a quarter of the mean
    positive, negative = 4 * DIFFERENCES * differences > margin, 4 * DIFFERENCES * differences < -margin
    if np.count_nonzero(positive | negative) < LEAST_DIFFERENCES:
        return np.zeros(HASH_BITS // 8, dtype=np.uint8)
    return np.packbits(np.concatenate([positive, negative]))


def is_flat(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """(N,) bool: the image is constant, or nearly so, and its hash says nothing. hashes: (N, HASH_BITS // 8)."""
    return np.asarray(~hashes.any(axis=1))


def find_near(hashes: Hashes, most: int = NEAR, progress: Callable[[int, int], None] | None = None) -> list[NearGroup]:
    """Groups of images whose hashes, or a hash and another's negative, are at most `most` thousandths apart.

    hashes: (N, HASH_BITS // 8) uint8. Two hashes are apart by the differences that only one has, and four times those
    of opposite sign, as a share of all differences of both: 0 for equal hashes, about 640 for unrelated radiographs,
    2000 for a negative. All pairs are compared. Images without structure are in no group. Groups and members ascend.
    N equal images cost as much as one; memory grows with N, not with the number of near pairs. `progress` is called
    with the number of comparisons done and of all.
    """
    rows = np.flatnonzero(~is_flat(hashes))
    distinct, kind = np.unique(hashes[rows], axis=0, return_inverse=True)
    signs = unpack(distinct)
    by_count = np.argsort(np.count_nonzero(signs, axis=1), kind="stable")
    label, furthest, negative = link(signs[by_count], most, progress)
    place = np.empty(len(by_count), dtype=np.int64)
    place[by_count] = np.arange(len(by_count))
    place = place[kind.ravel()]  # of each row among the distinct hashes, in their order by count
    order = np.argsort(label[place], kind="stable")
    starts = np.flatnonzero(np.diff(label[place[order]], prepend=-1))
    groups = [
        NearGroup(
            tuple(rows[members].tolist()), int(furthest[place[members]].max()), bool(negative[place[members]].any())
        )
        for members in np.split(order, starts[1:])
        if len(members) > 1
    ]
    return sorted(groups, key=lambda group: group.members)


def link(
    signs: npt.NDArray[np.int8], most: int, progress: Callable[[int, int], None] | None
) -> tuple[Integers, Integers, npt.NDArray[np.bool_]]:
    """The label of each hash's group, its furthest link and whether one of its links is to a negative; each (N,).

    signs: (N, DIFFERENCES) of -1, 0, 1, ascending by the number of those that are not 0. The products of two hashes are
    sums of at most 512 times +-1, so float32 is exact.
    """
    total = len(signs)
    counts = np.count_nonzero(signs, axis=1)
    label, furthest, negative = np.arange(total), np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.bool_)
    for top in range(0, total, BLOCK_ROWS):
        block = signs[top : top + BLOCK_ROWS].astype(np.float32)
        for left in range(top, total, BLOCK_COLUMNS):
            products = block @ signs[left : left + BLOCK_COLUMNS].astype(np.float32).T
            least = (counts[top : top + BLOCK_ROWS] + counts[left]) * (1000 - most) // 2000  # near rows reach it
            hits = np.flatnonzero(np.maximum(products.max(axis=1), -products.min(axis=1)) >= least)
            if not len(hits):
                continue
            agreement = products[hits].astype(np.int64)
            both = counts[top + hits, None] + counts[None, left : left + BLOCK_COLUMNS]
            apart = -(-1000 * (both - 2 * np.abs(agreement)) // both)  # rounded up, so that `most` is kept
            above = left + np.arange(products.shape[1]) > top + hits[:, None]  # each pair once
            near = (apart <= most) & above
            for hit in np.flatnonzero(near.any(axis=1)):
                row, columns = top + hits[hit], left + np.flatnonzero(near[hit])
                furthest[row] = max(furthest[row], apart[hit, near[hit]].max())
                negative[row] |= (agreement[hit, near[hit]] < 0).any()
                joined = np.unique(label[columns])
                if len(joined) > 1 or joined[0] != label[row]:
                    renamed = np.arange(total)
                    renamed[joined] = label[row]
                    label = renamed[label]
        if progress:
            done = min(top + BLOCK_ROWS, total)
            progress(total * (total - 1) // 2 - (total - done) * (total - done - 1) // 2, total * (total - 1) // 2)
    return label, furthest, negative


def sum_cells(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Integers:
    """(17, 17) int64 sums over equal boxes, times 289; a pixel on a border counts in both boxes by its share.

    pixels: (H, W). The sums are below 2**53, so they are exact in float64, in whatever order a library adds.
    """
    height, width = pixels.shape
    across, down = share_cells(width).T, share_cells(height)
    sums = np.zeros((CELLS + 1, CELLS + 1))
    for top in range(0, height, STRIP):
        strip = pixels[top : top + STRIP].astype(np.float64)
        sums += (down[:, top : top + STRIP] @ strip) @ across
    return sums.astype(np.int64)


def share_cells(length: int) -> npt.NDArray[np.float64]:
    """(17, length) integers: how many seventeenths of each pixel lie in each of 17 equal cells along `length`."""
    cells = np.arange(CELLS + 1)[:, None] * length
    pixels = np.arange(length)[None] * (CELLS + 1)
    overlap: Integers = np.minimum(cells + length, pixels + CELLS + 1) - np.maximum(cells, pixels)
    return np.maximum(overlap, 0).astype(np.float64)


def unpack(hashes: Hashes) -> npt.NDArray[np.int8]:
    """(N, DIFFERENCES) of -1, 0 and 1."""
    bits = np.unpackbits(hashes, axis=1).astype(np.int8)
    return bits[:, :DIFFERENCES] - bits[:, DIFFERENCES:]
