"""Fingerprints tell apart all that differs in a bit, a name, a shape or an order, and nothing else."""

import hashlib
import json
import math
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from genmed.ground import mixing
from genmed.ground.fingerprints import (
    digest_bytes,
    digest_file,
    digest_json,
    digest_names,
    digest_pixels,
)
from genmed.ground.mixing import mix_on_device
from genmed.ground.tensor_fingerprints import Snapshot, fingerprint_tensors
from genmed.ground.tensor_reading import Reader, read_tensors

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8]
COMPLEX = [torch.complex64, torch.complex128]
DTYPES = [*FLOATS, *INTEGERS, torch.bool, *COMPLEX]

Way = Callable[[torch.Tensor], object]


def by_hash(tensor: torch.Tensor) -> object:
    """As tensors on the CPU are fingerprinted."""
    return fingerprint_tensors([("x", tensor)])


def mix(tensors: list[torch.Tensor]) -> list[list[int]]:
    mixture = mix_on_device(tensors)
    return mixture.combine(mixture.sums).tolist()  # type: ignore[no-any-return]


def by_mix(tensor: torch.Tensor) -> object:
    """As the content of tensors on an accelerator is; name, dtype, shape and order are hashed beside it."""
    return tuple(mix([tensor])[0])


both_ways = pytest.mark.parametrize("way", [by_hash, by_mix])


def ramp(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Bits 1, 2, 3 ...: no two elements alike."""
    count = math.prod(shape)
    width = torch.empty(0, dtype=dtype).element_size()
    integers = np.arange(1, count + 1, dtype=f"u{width}" if width <= 8 else "u8")
    content = integers.tobytes() if width <= 8 else np.repeat(integers, 2).tobytes()
    if dtype == torch.bool:
        return (torch.arange(count) % 3 == 0).reshape(shape)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(dtype).reshape(shape)


def of_bits(bits: list[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor whose elements have these bits (little endian)."""
    width = torch.empty(0, dtype=dtype).element_size()
    content = bytearray(b"".join(value.to_bytes(width, "little") for value in bits))
    return torch.frombuffer(content, dtype=torch.uint8).view(dtype)


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flipped": lambda x: x.flip(-1),
    "flipped batch": lambda x: x.flip(0),
    "permuted batch": lambda x: x[[1, 2, 0, 3]],
    "negated": lambda x: -x,
    "doubled": lambda x: x * 2,
    "one row duplicated": lambda x: x[[0, 0, 2, 3]],
    "another row duplicated": lambda x: x[[1, 1, 2, 3]],
    "transposed content": lambda x: x.transpose(-1, -2).contiguous(),
    "shifted": lambda x: x.reshape(-1).roll(1).reshape(x.shape),
    "rolled batch": lambda x: x.roll(1, 0),
}


@both_ways
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_change_of_a_batch_is_seen(way: Way, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    batch = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    changed = change(batch).contiguous()
    assert changed.shape == batch.shape
    assert way(changed) != way(batch)


@both_ways
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.complex64],
    ids=str,
)
def test_negated_tensor_is_seen(way: Way, dtype: torch.dtype) -> None:
    tensor = torch.arange(1, 9).to(dtype)
    assert way(-tensor) != way(tensor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_negated_tensor_of_double_precision_is_seen_by_the_mix(dtype: torch.dtype) -> None:
    tensor = torch.arange(1, 9).to(dtype)
    assert by_mix(-tensor) != by_mix(tensor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_negated_tensor_of_double_precision_is_seen_by_the_hash(dtype: torch.dtype) -> None:
    tensor = torch.arange(1, 9).to(dtype)
    assert by_hash(-tensor) != by_hash(tensor)


@both_ways
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_elements_have_equal_fingerprints_and_one_more_bit_another(way: Way, dtype: torch.dtype) -> None:
    tensor = ramp(4, 5, dtype=dtype)
    assert way(tensor) == way(tensor.clone())
    raw = tensor.clone().reshape(-1).view(torch.uint8)
    seen = {way(tensor)}
    for byte in range(len(raw)):
        changed = raw.clone()
        changed[byte] ^= 1
        seen.add(way(changed.view(dtype).reshape(4, 5)))
    assert len(seen) == 1 + len(raw)


@both_ways
@pytest.mark.parametrize("bit", [0, 1, 7, 15, 22, 23, 30, 31])
def test_any_single_bit_of_any_single_element_is_seen(way: Way, bit: int) -> None:
    tensor = torch.linspace(-1, 1, 13)
    seen = {way(tensor)}
    for position in range(13):
        raw = tensor.clone().view(torch.int32)
        raw[position] ^= torch.tensor(1 << bit, dtype=torch.int64).to(torch.int32)
        seen.add(way(raw.view(torch.float32)))
    assert len(seen) == 14


@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8], ids=str)
def test_two_equal_changes_in_two_places_are_seen(way: Way, dtype: torch.dtype) -> None:
    tensor = torch.arange(1, 65).to(dtype)
    seen = {way(tensor)}
    pairs = [(first, second) for first in range(16) for second in range(first)]
    for pair in pairs:
        changed = tensor.clone()
        changed[list(pair)] += 1
        seen.add(way(changed))
    assert len(seen) == 1 + len(pairs)


@both_ways
def test_same_bit_flipped_in_two_places_is_seen(way: Way) -> None:
    tensor = torch.linspace(1, 2, 64)
    seen = {way(tensor)}
    for bit in range(31):
        raw = tensor.clone().view(torch.int32)
        raw[[3, 40]] ^= 1 << bit
        seen.add(way(raw.view(torch.float32)))
    assert len(seen) == 32


def test_highest_bit_flipped_in_two_places_of_64_bit_elements_is_seen_by_the_mix() -> None:
    tensor = torch.arange(64)
    changed = tensor.clone()
    changed[[3, 40]] ^= -(2**63)
    assert by_mix(changed) != by_mix(tensor)


@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_constants_are_told_apart(way: Way, dtype: torch.dtype) -> None:
    values = [0, 1] if dtype == torch.bool else [0, 1, 2, 3, 100]
    assert len({way(torch.full((4, 4), value, dtype=dtype)) for value in values}) == len(values)


@both_ways
def test_minus_zero_is_not_zero(way: Way) -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        assert way(torch.tensor([0.0, 1.0], dtype=dtype)) != way(torch.tensor([-0.0, 1.0], dtype=dtype))


@both_ways
def test_not_a_number_is_seen_and_its_payloads_are_told_apart(way: Way) -> None:
    payloads = [0x7FC00000, 0x7FC00001, 0x7F800001, 0xFFC00000, 0x7F800000]
    tensors = [of_bits([0x3F800000, bits], torch.float32) for bits in payloads]
    assert [bool(tensor[1].isnan()) for tensor in tensors] == [True] * 4 + [False]
    assert len({way(tensor) for tensor in tensors}) == 5
    assert way(tensors[0]) == way(tensors[0].clone())


@both_ways
def test_denormals_are_told_from_zero(way: Way) -> None:
    assert way(of_bits([1], torch.float32)) != way(of_bits([0], torch.float32))


def test_shape_dtype_and_name_are_part_of_the_fingerprint() -> None:
    zeros = torch.zeros(4)
    others = [
        [("x", torch.zeros(2, 2))],
        [("x", torch.zeros(4, 1))],
        [("x", torch.zeros(5))],
        [("x", torch.zeros(4, dtype=torch.int32))],
        [("x", torch.zeros(2, dtype=torch.float64))],
        [("x", torch.zeros(16, dtype=torch.uint8))],
        [("x", torch.zeros(16, dtype=torch.bool))],
        [("y", zeros)],
        [("", zeros)],
        [],
    ]
    assert len({fingerprint_tensors(other) for other in [[("x", zeros)], *others]}) == 11


def test_empty_tensors_are_told_apart_by_shape_dtype_name_and_number() -> None:
    groups = [
        [],
        [("x", torch.empty(0))],
        [("x", torch.empty(0, 3))],
        [("x", torch.empty(3, 0))],
        [("x", torch.empty(0, dtype=torch.int64))],
        [("y", torch.empty(0))],
        [("x", torch.empty(0)), ("x", torch.empty(0))],
        [("x", torch.tensor(0.0))],
    ]
    assert len({fingerprint_tensors(group) for group in groups}) == len(groups)
    assert by_mix(torch.empty(0, 3)) == (0, 0)


def test_scalar_is_not_a_vector_of_one() -> None:
    assert by_hash(torch.tensor(1.0)) != by_hash(torch.tensor([1.0]))
    assert by_mix(torch.tensor(1.0)) == by_mix(torch.tensor([1.0]))


def test_bool_is_read_element_by_element() -> None:
    for way in (by_hash, by_mix):
        seen = {way(torch.tensor([bool(bits >> n & 1) for n in range(5)])) for bits in range(32)}
        assert len(seen) == 32
    assert by_hash(torch.tensor([True, False])) != by_hash(torch.tensor([1, 0], dtype=torch.uint8))


def test_swapped_weights_are_seen_within_and_across_tensors() -> None:
    first, second = ramp(3, 3), ramp(3, 3) * 2
    usual = fingerprint_tensors({"a": first, "b": second})
    within = first.clone().reshape(-1)
    within[[2, 7]] = within[[7, 2]]
    one, other = first.clone(), second.clone()
    one[1, 1], other[1, 1] = second[1, 1], first[1, 1]
    groups = [
        {"a": within.reshape(3, 3), "b": second},
        {"a": one, "b": other},
        {"a": second, "b": first},
        {"b": first, "a": second},
        {"b": second, "a": first},
        {"a": first, "c": second},
        {"a": first},
        {"a": first, "b": second, "c": torch.empty(0)},
    ]
    assert len({usual, *map(fingerprint_tensors, groups)}) == 1 + len(groups)
    assert fingerprint_tensors([("a", first), ("b", second)]) == usual == fingerprint_tensors({"a": first, "b": second})


def test_content_moved_between_neighbours_is_seen() -> None:
    """As if the bytes of all tensors were strung together."""
    whole = ramp(6)
    groups = [{"a": whole[:n].clone(), "b": whole[n:].clone()} for n in range(7)]
    assert len({fingerprint_tensors(group) for group in groups}) == 7


def test_channels_last_is_told_from_contiguous_and_equal_to_itself() -> None:
    plain = ramp(2, 3, 4, 4)
    last = plain.contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)
    assert by_hash(plain) != by_hash(last)
    assert by_hash(last) == by_hash(plain.clone().to(memory_format=torch.channels_last))
    same_memory = last.permute(0, 2, 3, 1).reshape(2, 3, 4, 4)
    assert by_hash(same_memory) != by_hash(last)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 1, 1),
        (2, 1, 4, 4),
        (1, 3, 1, 5),
        (4, 1, 1, 1),
        (1, 4, 6, 1),
        (1, 1, 1, 1),
    ],
)
def test_dimension_of_size_one_may_have_any_stride(shape: tuple[int, ...]) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        tensor = ramp(*shape).contiguous(memory_format=memory_format)
        odd = tuple(97 if size == 1 else stride for size, stride in zip(shape, tensor.stride(), strict=True))
        twin = tensor.as_strided(shape, odd)
        assert torch.equal(twin, tensor)
        assert by_hash(twin) == by_hash(tensor)


def test_orders_of_memory_that_are_the_same_have_one_fingerprint() -> None:
    """With one channel, or one pixel, channels-last and contiguous are the same bytes in the same order."""
    for shape in ((2, 1, 4, 4), (5, 3, 1, 1)):
        tensor = ramp(*shape)
        assert by_hash(tensor.contiguous(memory_format=torch.channels_last)) == by_hash(tensor)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "every second": lambda x: x[::2],
    "inner slice": lambda x: x[:, 1:3],
    "one column": lambda x: x[:, 2],
    "expanded": lambda x: x[:1].expand(3, -1),
    "expanded scalar": lambda x: x[0, 0].expand(2, 2),
    "diagonal": lambda x: x.diagonal(),
    "overlapping": lambda x: x.as_strided((3, 3), (1, 1)),
    "offset": lambda x: x[2:],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_view_with_holes_or_overlaps_is_read_as_its_contiguous_copy(
    view: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    taken = view(ramp(6, 6))
    assert by_hash(taken) == by_hash(taken.clone(memory_format=torch.contiguous_format))
    assert by_mix(taken) == by_mix(taken.clone(memory_format=torch.contiguous_format))
    assert by_hash(taken) != by_hash(view(ramp(6, 6) * 2))


def test_transposed_view_is_told_from_a_matrix_of_the_same_memory_and_from_its_copy() -> None:
    square = ramp(4, 4)
    assert len({by_hash(square), by_hash(square.t()), by_hash(square.t().contiguous())}) == 3


def test_gradients_and_parameters_are_read_as_plain_tensors() -> None:
    weight = ramp(3, 3)
    assert by_hash(torch.nn.Parameter(weight)) == by_hash(weight)
    assert by_hash(weight.clone().requires_grad_()) == by_hash(weight)


def test_reading_changes_nothing() -> None:
    tensor = ramp(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    before, stride = tensor.clone(), tensor.stride()
    assert by_hash(tensor) == by_hash(tensor)
    assert by_mix(tensor) == by_mix(tensor)
    assert torch.equal(tensor, before)
    assert tensor.stride() == stride


def test_fingerprints_begin_with_their_algorithm() -> None:
    assert fingerprint_tensors({"x": ramp(3)}).startswith("xxh3-128:")
    assert digest_bytes(b"").startswith("sha256:")
    assert digest_names(["a"]).startswith("xxh3-128:")


def test_tensors_are_read_where_they_lie_now() -> None:
    """Each way in which a tensor comes to lie elsewhere, or otherwise, after it was looked at."""
    reader = Reader()
    tensor = torch.arange(12.0).reshape(3, 4)

    def read_again() -> str:
        return Snapshot([reader.read(["x"], [tensor])]).wait()[0]

    def agree() -> bool:
        return read_again() == read_again() == fingerprint_tensors([("x", tensor)])

    assert agree()
    tensor.add_(1)
    assert agree()
    tensor.data = tensor.data.clone() * 2
    assert agree()
    tensor.t_()
    assert agree()
    tensor.resize_(6, 2)
    assert agree()
    tensor.set_(torch.zeros(4, 5, 6)[:, ::2, 1])  # type: ignore[call-overload]  has holes: read as a copy
    assert agree()
    tensor.add_(1)
    assert agree()
    tensor.data = ramp(3, 3)
    assert agree()
    tensor.t_()  # other strides alone
    assert agree()
    tensor.t_()
    assert agree()
    tensor.resize_(2, 3)  # another shape alone
    assert agree()
    tensor.data = ramp(2, 3).view(torch.int32)  # another dtype alone
    assert agree()
    tensor.data = torch.ones(0)
    assert agree()


def test_names_and_their_number_are_those_of_now() -> None:
    reader, one, two = Reader(), ramp(3), ramp(4)
    for group in ({"x": one}, {"y": one}, {"x": one, "y": two}, {"y": two}, {}):
        assert Snapshot([reader.read(list(group), list(group.values()))]).wait() == [fingerprint_tensors(group)]


def test_memory_of_tensors_is_held_by_what_was_read_not_by_the_reader() -> None:
    reader, array = Reader(), np.ones(1000, dtype=np.float32)
    memory = weakref.ref(array)
    tensor = torch.from_numpy(array)
    whole, holes = reader.read(["x"], [tensor]), reader.read(["x"], [tensor[::2]])
    del tensor, array
    assert Snapshot([whole, holes]).wait() == [fingerprint_tensors([("x", torch.ones(n))]) for n in (1000, 500)]
    del whole, holes
    assert memory() is None


def test_lazily_conjugated_and_negated_tensors_are_read_as_what_they_say() -> None:
    numbers = torch.view_as_complex(ramp(5, 2))
    for lazy in (numbers.conj(), numbers.conj().imag):
        assert lazy.is_conj() or lazy.is_neg()
        assert fingerprint_tensors([("x", lazy)]) == fingerprint_tensors([("x", lazy.clone().resolve_neg())])
        assert by_hash(lazy) != by_hash(numbers if lazy.is_complex() else numbers.imag.clone())


def test_snapshot_of_groups_is_that_of_each_alone_on_any_number_of_threads() -> None:
    groups = [[(str(n), ramp(n + 1, 1000)) for n in range(size)] for size in (3, 0, 9, 1)]
    alone = [fingerprint_tensors(group) for group in groups]
    for threads in (1, 2, 8):
        assert Snapshot([read_tensors(group) for group in groups], threads).wait() == alone
    assert Snapshot([]).wait() == []


def test_snapshot_is_of_the_moment_in_which_it_was_taken() -> None:
    tensor = ramp(1000)
    before = fingerprint_tensors([("x", tensor)])
    snapshot = Snapshot([read_tensors([("x", tensor)])], 2)
    tensor.zero_()
    assert snapshot.wait() == [before] != [fingerprint_tensors([("x", tensor)])]


def test_mix_is_the_documented_sum_mod_2_to_the_64() -> None:
    """Integers, weights and wrapping written out in Python, where integers have no width."""

    def splitmix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    values = [1.5, -2.25, 0.0, -0.0, 3e38, math.inf]
    bits = [struct.unpack("<i", struct.pack("<f", value))[0] for value in values]
    gammas = [-7046029254386353131 % 2**64, -4417276706812531889 % 2**64]
    sums = [
        sum(bit * (splitmix(position * gamma % 2**64) | 1) for position, bit in enumerate(bits, start=1)) % 2**64
        for gamma in gammas
    ]
    assert list(by_mix(torch.tensor(values))) == sums


def test_mix_in_portions_is_the_mix_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = ramp(7, 11)
    whole = by_mix(tensor)
    for piece, chunk in ((8, 8), (8, 24), (100, 8)):
        monkeypatch.setattr(mixing, "PIECE", piece)
        monkeypatch.setattr(mixing, "CHUNK", chunk)
        mixing._weights.cache_clear()
        assert by_mix(tensor) == whole
    mixing._weights.cache_clear()


def test_many_tensors_are_mixed_as_each_alone_by_as_few_kernels_as_two() -> None:
    tensors = [ramp(*shape, dtype=dtype) for shape in ((3, 5), (), (77,)) for dtype in DTYPES]
    assert mix(tensors) == [mix([tensor])[0] for tensor in tensors]
    few, many = (count_kernels([ramp(9) for _ in range(count)]) for count in (2, 200))
    assert few == many > 0


def count_kernels(tensors: list[torch.Tensor]) -> int:
    """Operations that compute, when nothing is new: views, which launch nothing, are left out."""
    mix_on_device(tensors)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        mix_on_device(tensors)
    views = "view", "slice", "reshape", "as_strided", "contiguous", "detach", "select", "narrow", "to", "t", "transpose"
    return sum(1 for event in profile.events() if event.name.removeprefix("aten::") not in (*views, "numpy_T"))


bit_patterns = st.tuples(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.int8]),
    st.binary(min_size=8, max_size=64).map(lambda content: content[: len(content) // 8 * 8]),
)
examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@both_ways
@examples
@given(bit_patterns, st.data())
def test_any_bits_are_told_from_any_other_bits(
    way: Way, pattern: tuple[torch.dtype, bytes], data: st.DataObject
) -> None:
    dtype, content = pattern
    other = data.draw(st.binary(min_size=len(content), max_size=len(content)))
    assume(other != content)
    first, second, third = (
        torch.frombuffer(bytearray(each), dtype=torch.uint8).view(dtype) for each in (content, other, content)
    )
    assert way(first) == way(third) != way(second)


@both_ways
@examples
@given(bit_patterns, st.randoms(use_true_random=False))
def test_any_reordering_of_elements_is_seen(way: Way, pattern: tuple[torch.dtype, bytes], random: Random) -> None:
    dtype, content = pattern
    tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(dtype)
    width = tensor.element_size()
    elements = [content[at : at + width] for at in range(0, len(content), width)]
    shuffled = list(elements)
    random.shuffle(shuffled)
    assume(shuffled != elements)
    again = torch.frombuffer(bytearray(b"".join(shuffled)), dtype=torch.uint8).view(dtype)
    assert way(again) != way(tensor)


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@examples
@given(plain_json)
def test_json_that_was_written_and_read_again_has_its_digest(value: object) -> None:
    assert digest_json(json.loads(json.dumps(value, indent=3))) == digest_json(value)


@examples
@given(st.dictionaries(st.text(), st.integers(), min_size=2, max_size=6))
def test_order_of_keys_is_no_part_of_the_digest(value: dict[str, int]) -> None:
    assert digest_json(dict(reversed(value.items()))) == digest_json(value)


def test_json_digest_is_sha256_of_the_canonical_text() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"ä": "x", "Z": 1e-7}}
    text = '{"a":{"Z":1e-07,"ä":"x"},"b":[1,2.5,null,true]}'
    assert digest_json(value) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_json_values_that_python_calls_equal_are_told_apart() -> None:
    values = [1, 1.0, True, "1", [1], {"1": 1}, None, 0, False, -0.0, 0.0, "", [], {}, [[]], [1, 1], [1, [1]]]
    assert len({digest_json(value) for value in values}) == len(values)
    assert digest_json(0.1 + 0.2) != digest_json(0.3)
    assert digest_json([1, 2]) != digest_json([2, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_json_without_a_canonical_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json(value)


def test_names_are_told_apart_by_order_and_by_where_they_end() -> None:
    groups = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ["", "a", "b"], ["a"]]
    assert len({digest_names(group) for group in groups}) == len(groups)


def test_pixels_are_told_apart_by_shape_and_content() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    others = [image.reshape(6, 4), image.reshape(1, 4, 6), np.flip(image, 1).copy(), image ^ 1, image[:3]]
    assert len({digest_pixels(each) for each in [image, *others]}) == 6
    assert digest_pixels(image.copy()) == digest_pixels(image)


def test_file_digest_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"genmed" * 1000)
    assert digest_file(path) == digest_bytes(b"genmed" * 1000)
    assert digest_file(path) == "sha256:" + hashlib.sha256(b"genmed" * 1000).hexdigest()
