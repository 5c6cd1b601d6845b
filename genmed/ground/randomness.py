"""Randomness without state: each draw is a function of a key, whatever was drawn before.

Everything is made of Philox's raw words (`random_raw`), whose values NumPy guarantees; the streams of `permutation`,
`normal` and the like change between versions of NumPy and are not used.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Key = tuple[int | str, ...]
Words = npt.NDArray[np.uint64]

MASK_32 = 0xFFFFFFFF


def derive_words(key: Key, count: int) -> list[int]:
    """The first `count` (at most 4) 64-bit integers of SHA-256 over the key's unambiguous text."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(count)]


def draw_words(key: Key, count: int) -> Words:
    """(count,) raw 64-bit words of Philox4x64-10 (Salmon et al. 2011) under the key."""
    generator = np.random.Philox(key=np.array(derive_words(key, 2), dtype=np.uint64))
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def draw_uniform(key: Key, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), 53 bits each: exact on every machine."""
    count = int(np.prod(shape, dtype=np.int64))
    fractions: npt.NDArray[np.float64] = (draw_words(key, count) >> np.uint64(11)).astype(np.float64)
    return (fractions * 2.0**-53).reshape(shape)


def draw_order(key: Key, count: int) -> npt.NDArray[np.int64]:
    """(count,) a permutation of 0..count-1: the stable argsort of raw words."""
    return np.argsort(draw_words(key, count), kind="stable").astype(np.int64)


def draw_fraction(key: Key) -> float:
    """One number in [0, 1) for one key."""
    return (derive_words(key, 1)[0] >> 11) * 2.0**-53


def step_seed(seed: int, counter: int) -> int:
    """A 32-bit seed for one shard of one step; for a given `seed`, no two counters below 2**32 share one.

    torch's CPU generator keeps only 32 bits of a seed, so a hash of the counter would collide within some 65,000
    steps. This is a bijection: the finaliser of MurmurHash3 (Appleby 2011) between two keyed xors.
    """
    before, after = derive_words((seed, "step"), 2)
    x = (counter ^ before) & MASK_32
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & MASK_32
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & MASK_32
    x ^= x >> 16
    return x ^ (after & MASK_32)


def derive_seed(*key: Any) -> int:
    """A 32-bit seed for one purpose, e.g. `derive_seed(42, "init")`."""
    return derive_words(key, 1)[0] & MASK_32
