"""DICOM images against the standard's formulae, written out pixel by pixel; and files that are broken on purpose."""

import contextlib
import io
import math
import random
import struct
import subprocess
import sys
import warnings
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data import dicom
from genmed.parts.data.dicom import decode_dicom, decoder_versions, header, read_facts

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("gdcm")

from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from tests.conftest import SHARED  # noqa: E402
from tests.datasets.making_dicom import LOSSLESS, NATIVE, make_dicom  # noqa: E402

REAL = SHARED / "dicom"
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def show(tmp_path, pixels, **options):
    path = make_dicom(tmp_path / "image.dcm", np.asarray(pixels), **options)
    return decode_dicom(path.read_bytes(), "image.dcm")


def edit(tmp_path, pixels=RAMP, name="image.dcm", *, change=lambda dataset: None, **options):
    """The bytes of a made file after `change` of its dataset."""
    path = make_dicom(tmp_path / name, pixels, **options)
    dataset = pydicom.dcmread(path)
    change(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = io.BytesIO()
        dataset.save_as(packed)
    return packed.getvalue()


def reason(content):
    with pytest.raises(DataError) as refusal:
        decode_dicom(content, "scan 7")
    assert refusal.value.message.startswith("scan 7 ")
    assert "\n" not in refusal.value.message
    return refusal.value.message.removeprefix("scan 7 ")


def round_up_at_half(value):
    return math.floor(value + Fraction(1, 2))


def by_the_standard(stored, bits, signed, *, rescale, window, function, photometric, padding, presentation):
    """One stored value to one grey, as PS3.3 C.11 says it, with y from 0 to 255."""
    if stored == padding:
        return 0
    slope, intercept = (Fraction(str(part)) for part in rescale or (1, 0))
    x = stored * slope + intercept
    if window is None:
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends = least * slope + intercept, most * slope + intercept
        y = (x - min(ends)) / (max(ends) - min(ends)) * 255
    else:
        c, w = (Fraction(str(part)) for part in window)
        if function == "SIGMOID":
            power = float(-4 * (x - c) / w)
            y = Fraction(255 / (1 + math.exp(power))) if power < 700 else 0
        elif function == "LINEAR_EXACT":
            if x <= c - w / 2:
                y = 0
            elif x > c + w / 2:
                y = 255
            else:
                y = ((x - c) / w + Fraction(1, 2)) * 255
        elif x <= c - Fraction(1, 2) - (w - 1) / 2:
            y = 0
        elif x > c - Fraction(1, 2) + (w - 1) / 2:
            y = 255
        else:
            y = ((x - (c - Fraction(1, 2))) / (w - 1) + Fraction(1, 2)) * 255
    grey = round_up_at_half(y)
    return 255 - grey if photometric == "MONOCHROME1" or presentation == "INVERSE" else grey


def decimals(least, most):
    return st.integers(least * 100, most * 100).map(lambda hundredths: hundredths / 100)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_grey_values_are_those_of_the_standards_formulae(tmp_path_factory, data):
    bits, signed = data.draw(st.integers(8, 16)), data.draw(st.booleans())
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    rescale = data.draw(st.none() | st.tuples(decimals(-3, 3).filter(bool), decimals(-2000, 2000)))
    function = data.draw(st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    window = data.draw(st.none() | st.tuples(decimals(least, most), decimals(1, 2**bits)))
    photometric = data.draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    presentation = data.draw(st.sampled_from([None, "IDENTITY", "INVERSE"]))
    values = data.draw(st.lists(st.integers(least, most), min_size=12, max_size=12))
    padding = data.draw(st.none() | st.sampled_from(values))
    settings_of_file = {"rescale": rescale, "window": window, "photometric": photometric, "presentation": presentation}
    shown = show(
        tmp_path_factory.mktemp("dicom"),
        np.array(values, dtype=np.int64).reshape(3, 4).astype(np.int16 if signed else np.uint16),
        bits_stored=bits,
        signed=signed,
        voi_function=function,
        padding=padding,
        **settings_of_file,
    )
    expected = [
        by_the_standard(value, bits, signed, function=function, padding=padding, **settings_of_file) for value in values
    ]
    assert shown.ravel().tolist() == expected


def test_plain_8_bit_image_is_itself_and_monochrome1_its_negative(tmp_path):
    assert np.array_equal(show(tmp_path, RAMP), RAMP)
    assert np.array_equal(show(tmp_path, RAMP, photometric="MONOCHROME1"), 255 - RAMP)


def test_monochrome1_and_inverse_shape_say_the_same_thing_and_invert_once(tmp_path):
    for photometric, shape, inverted in (
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
    ):
        shown = show(tmp_path, RAMP, photometric=photometric, presentation=shape)
        assert np.array_equal(shown, 255 - RAMP if inverted else RAMP), (photometric, shape)


def test_padding_is_black_before_and_after_inversion_and_moves_nothing_else(tmp_path):
    padded = RAMP.copy()
    padded[:2] = 255
    black = np.where(padded == 255, 0, padded)
    assert np.array_equal(show(tmp_path, padded, padding=255), black)
    turned = np.where(padded == 0, 0, 255 - padded)
    turned[padded == 255] = 0
    assert np.array_equal(show(tmp_path, padded, photometric="MONOCHROME1", padding=0), turned)
    ranged = np.where((RAMP >= 10) & (RAMP <= 20), 0, 255 - RAMP)
    for padding in ((10, 20), (20, 10)):
        assert np.array_equal(show(tmp_path, RAMP, photometric="MONOCHROME1", padding=padding), ranged)


def test_signed_padding_is_found_whichever_sign_its_16_bits_were_written_with(tmp_path):
    pixels = np.array([[-2000, 0], [100, 2047]], dtype=np.int16)
    shown = show(tmp_path, pixels, signed=True, padding=-2000, photometric="MONOCHROME1", window=(0, 256))
    assert shown.tolist() == [[0, 127], [27, 0]]

    def write_unsigned(dataset):
        dataset["PixelPaddingValue"].VR = "US"
        dataset.PixelPaddingValue = 0x10000 - 2000

    other = edit(
        tmp_path, pixels, change=write_unsigned, signed=True, padding=-2000, photometric="MONOCHROME1", window=(0, 256)
    )
    assert decode_dicom(other, "other").tolist() == shown.tolist()


def test_first_of_several_windows_is_used(tmp_path):
    many = show(tmp_path, RAMP, window=([100, 30, 200], [50, 60, 10]))
    assert np.array_equal(many, show(tmp_path, RAMP, window=(100, 50)))
    assert not np.array_equal(many, show(tmp_path, RAMP, window=(30, 60)))


def test_window_of_width_1_is_a_step(tmp_path):
    assert np.array_equal(show(tmp_path, RAMP, window=(100, 1)), np.where(RAMP > 99, 255, 0))
    assert np.array_equal(show(tmp_path, RAMP, window=(100, 1), rescale=(-1, 255)), np.where(255 - RAMP > 99, 255, 0))


def test_halves_are_rounded_up(tmp_path):
    pixels = np.array([[0, 1, 2, 3, 253, 255]], dtype=np.uint16)
    exact = show(tmp_path, pixels, window=(255, 510), voi_function="LINEAR_EXACT")
    assert exact.tolist() == [[0, 1, 1, 2, 127, 128]]
    assert show(tmp_path, pixels, window=(253, 20), voi_function="SIGMOID")[0, 4] == 128


def test_scale_is_that_of_bits_stored_never_of_the_images_extremes(tmp_path):
    dim = np.full((4, 4), 1000, dtype=np.uint16)
    assert show(tmp_path, dim, bits_stored=12)[0, 0] == round_up_at_half(Fraction(1000 * 255, 4095))
    assert show(tmp_path, dim, bits_stored=16)[0, 0] == round_up_at_half(Fraction(1000 * 255, 65535))
    assert show(tmp_path, dim.astype(np.int16), bits_stored=12, signed=True)[0, 0] == round_up_at_half(
        Fraction((1000 + 2048) * 255, 4095)
    )


def test_bits_above_bits_stored_are_not_part_of_the_value(tmp_path):
    values = np.array([[0, 5, 2047, 4095]], dtype=np.uint16)
    for signed in (False, True):
        clean = show(tmp_path, values, bits_stored=12, signed=signed)
        for junk in (0x1000, 0xF000, 0x8000):
            assert np.array_equal(show(tmp_path, values | junk, bits_stored=12, signed=signed), clean)


def test_voi_table_comes_after_rescale_and_before_a_window(tmp_path):
    table = [0, 100, 300, 1023]
    pixels = np.array([[0, 9, 10, 11, 12, 13, 14, 200]], dtype=np.uint8)
    shown = show(tmp_path, pixels, voi_lut=(table, 10, 10), window=(1, 2))
    levels = [round_up_at_half(Fraction(entry * 255, 1023)) for entry in table]
    assert shown[0].tolist() == [levels[0], levels[0], *levels, levels[3], levels[3]]
    moved = show(tmp_path, pixels, voi_lut=(table, 5, 10), rescale=(0.5, 0))
    assert moved[0].tolist() == [levels[place] for place in (0, 0, 0, 1, 1, 2, 2, 3)]


def test_voi_table_may_begin_below_zero(tmp_path):
    pixels = np.array([[-5, -2, -1, 0, 1, 300]], dtype=np.int16)
    shown = show(tmp_path, pixels, signed=True, voi_lut=([0, 50, 255], -2, 8))
    assert shown[0].tolist() == [0, 0, 50, 255, 255, 255]


def test_modality_table_comes_before_the_window_and_replaces_rescale(tmp_path):
    pixels = np.array([[0, 1, 2, 3, 9]], dtype=np.uint8)
    table = [0, 1000, 3000, 4095]
    plain = show(tmp_path, pixels, modality_lut=(table, 0, 12))
    assert plain[0].tolist() == [round_up_at_half(Fraction(entry * 255, 4095)) for entry in [*table, 4095]]
    windowed = show(tmp_path, pixels, modality_lut=(table, 0, 12), window=(2000, 4000), voi_function="LINEAR_EXACT")
    assert windowed[0].tolist() == [0, 64, 191, 255, 255]
    both = show(tmp_path, pixels, modality_lut=(table, 0, 12), voi_lut=([10, 20, 30], 999, 8))
    assert both[0].tolist() == [10, 20, 30, 30, 30]


def test_table_of_8_bit_entries_is_read_packed_and_padded(tmp_path):
    pixels = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    for syntax in NATIVE:
        padded = edit(tmp_path, pixels, voi_lut=([7, 8, 9, 10], 0, 8), syntax=syntax)
        assert decode_dicom(padded, "padded")[0].tolist() == [7, 8, 9, 10]

    def pack(dataset):
        dataset.VOILUTSequence[0].LUTData = bytes([7, 8, 9, 10])

    assert decode_dicom(edit(tmp_path, pixels, change=pack, voi_lut=([0] * 4, 0, 8)), "packed")[0].tolist() == [
        *range(7, 11)
    ]


def test_table_of_65536_entries_says_0_of_them(tmp_path):
    pixels = np.array([[0, 65535]], dtype=np.uint16)
    assert show(tmp_path, pixels, voi_lut=(np.arange(65536)[::-1], 0, 16)).tolist() == [[255, 0]]


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (16, False), (12, True), (16, True)])
def test_every_lossless_encoding_gives_the_same_greys(tmp_path, syntax, bits, signed):
    pixels = np.random.default_rng(1).integers(0, 1 << bits, (8, 10))
    if signed:
        pixels -= 1 << (bits - 1)
    pixels = pixels.astype(np.uint8 if bits == 8 else np.int16 if signed else np.uint16)
    plain = show(tmp_path, pixels, bits_stored=bits, signed=signed)
    assert len(np.unique(plain)) > 5
    same = show(tmp_path, pixels, bits_stored=bits, signed=signed, syntax=syntax)
    assert np.array_equal(same, plain)


def test_jpeg_is_what_pillow_decodes(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(56)).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(smooth).save(packed, "JPEG", quality=95)
    decoded = np.asarray(Image.open(packed))
    assert np.array_equal(show(tmp_path, smooth, syntax=JPEGBaseline8Bit), decoded)
    assert np.array_equal(show(tmp_path, smooth, syntax=JPEGBaseline8Bit, photometric="MONOCHROME1"), 255 - decoded)


def test_colour_becomes_grey_as_pillow_does_it(tmp_path):
    colour = np.random.default_rng(2).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(colour).convert("L"))
    for syntax in (*NATIVE, *LOSSLESS):
        assert np.array_equal(show(tmp_path, colour, photometric="RGB", syntax=syntax), grey), syntax.name
    luma = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    assert np.array_equal(show(tmp_path, luma, photometric="YBR_FULL"), luma[..., 0])
    smooth = np.stack([np.add.outer(np.arange(16), np.arange(16) * k) for k in (1, 2, 3)], axis=2).astype(np.uint8)
    shown = show(tmp_path, smooth, photometric="YBR_FULL_422", syntax=JPEGBaseline8Bit)
    assert np.abs(shown.astype(int) - np.asarray(Image.fromarray(smooth).convert("L"))).max() <= 6


def test_subsampled_colour_without_compression_keeps_its_luma(tmp_path):
    luma = np.arange(8, dtype=np.uint8).reshape(2, 4) * 30
    pairs = luma.reshape(-1, 2)
    packed = np.concatenate([pairs, np.full_like(pairs, 128)], axis=1).tobytes()

    def subsample(dataset):
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.PixelData = packed

    content = edit(tmp_path, np.zeros((2, 4, 3), dtype=np.uint8), change=subsample, photometric="YBR_FULL")
    assert np.array_equal(decode_dicom(content, "colour"), luma)


def test_file_without_preamble_is_read_if_it_holds_an_image(tmp_path):
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        content = make_dicom(tmp_path / "image.dcm", RAMP, syntax=syntax).read_bytes()
        assert np.array_equal(decode_dicom(content[132:], "bare"), RAMP)
        start = 144 + struct.unpack("<I", content[140:144])[0]
        assert np.array_equal(decode_dicom(content[start:], "barer"), RAMP)


def test_what_is_not_dicom_is_called_so():
    packed = io.BytesIO()
    Image.fromarray(RAMP).save(packed, "PNG")
    assert reason(b"") == "is empty (0 bytes)"
    for content in (b"x", packed.getvalue(), b"path,label\n" * 40, bytes(500), random.Random(0).randbytes(3000)):
        assert reason(content) == "is not DICOM"
    assert reason(bytes(128) + b"DICM") == "does not say its Rows"


def set_value(keyword, value):
    return lambda dataset: setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dataset: dataset.__delattr__("PixelData"), "has no Pixel Data"),
        (set_value("PixelData", b""), "has empty Pixel Data"),
        (set_value("PixelData", bytes(100)), "is cut short: 100 bytes of pixels of 256"),
        (set_value("NumberOfFrames", 12), "has 12 frames; images of one frame are read"),
        (set_value("PhotometricInterpretation", "PALETTE COLOR"), "'PALETTE COLOR', which is not read"),
        (set_value("PhotometricInterpretation", "RGB"), "has 1 samples per pixel and is said to be RGB"),
        (set_value("Rows", 20_001), "is 16 x 20001 px; the most is 20000 a side"),
        (set_value("Rows", 0), "is 16 x 0 px"),
        (set_value("Rows", [16, 16]), "has Rows [16, 16], which is not a whole number"),
        (set_value("BitsAllocated", 32), "has 32 bits a sample; 8 and 16 are read"),
        (set_value("BitsStored", 9), "has Bits Stored 9 of 8 bits allocated"),
        (set_value("BitsStored", 0), "has Bits Stored 0 of 8 bits allocated"),
        (set_value("HighBit", 6), "has High Bit 6; it must be Bits Stored - 1, 7"),
        (set_value("PixelRepresentation", 7), "has Pixel Representation 7; it is 0 or 1"),
        (set_value("RescaleSlope", 0), "has Rescale Slope 0"),
        (set_value("RescaleSlope", 1e300), "has RescaleSlope 1e+300"),
        (set_value("WindowCenter", 3), "has one of Window Center and Window Width, without the other"),
    ],
)
def test_image_that_is_not_read_is_refused_with_the_reason(tmp_path, change, said):
    assert said in reason(edit(tmp_path, change=change))


@pytest.mark.parametrize(
    ("width", "function", "said"),
    [
        (0.9, "LINEAR", "has Window Width 0.9; for LINEAR it must be at least 1"),
        (0, "LINEAR_EXACT", "has Window Width 0; for LINEAR_EXACT it must be above 0"),
        (-4, "SIGMOID", "has Window Width -4; for SIGMOID it must be above 0"),
        (10, "CUBIC", "has the VOI LUT Function 'CUBIC', which is not known"),
    ],
)
def test_windows_that_the_standard_forbids_are_refused(tmp_path, width, function, said):
    assert reason(edit(tmp_path, window=(40, width), voi_function=function)) == said


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1e-300", "wide", "1" * 5000, "1,5"])
def test_numbers_that_are_none_are_refused(tmp_path, text):
    def write(dataset):
        dataset.add_new("RescaleIntercept", "UT", text)

    content = edit(tmp_path, change=write)
    assert reason(content)


def test_broken_tables_are_refused(tmp_path):
    def shorten(dataset):
        dataset.VOILUTSequence[0].LUTData = bytes(4)

    def empty(dataset):
        del dataset.VOILUTSequence[0].LUTData

    def deepen(dataset):
        dataset.VOILUTSequence[0].LUTDescriptor = [4, 0, 32]

    table = {"voi_lut": ([1, 2, 3, 4], 0, 16)}
    assert reason(edit(tmp_path, change=shorten, **table)) == "has a VOI LUT of 2 entries and says 4"
    assert reason(edit(tmp_path, change=empty, **table)) == "has a VOI LUT Sequence without its table"
    assert reason(edit(tmp_path, change=deepen, **table)) == "has a VOI LUT of 32 bits an entry; 8 to 16 are read"


def encoded(tmp_path, syntax, frame, **options):
    def put(dataset):
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax

    return edit(tmp_path, change=put, **options)


def test_encoding_that_is_not_read_is_named(tmp_path):
    assert "is encoded as High-Throughput JPEG 2000" in reason(encoded(tmp_path, HTJ2KLossless, b"\xff\x4f"))
    twelve = b"\xff\xd8\xff\xc1\x00\x0b\x0c\x00\x10\x00\x10\x01\x01\x11\x00\xff\xda\x00\x08\xff\xd9"
    assert reason(encoded(tmp_path, JPEGExtended12Bit, twelve)).endswith(" of 12 bits; 8 are read")


def test_pixels_of_another_encoding_or_size_than_said_are_refused(tmp_path):
    packed = {}
    for syntax in (*LOSSLESS, JPEGBaseline8Bit):
        made = pydicom.dcmread(make_dicom(tmp_path / "made.dcm", RAMP, syntax=syntax))
        packed[syntax] = pydicom.encaps.get_frame(made.PixelData, 0, number_of_frames=1)
    for said in packed:
        for truth, frame in packed.items():
            content = encoded(tmp_path, said, frame)
            if said == truth:
                assert decode_dicom(content, "image").shape == RAMP.shape
            else:
                reason(content)
        larger = encoded(tmp_path, said, packed[said], pixels=np.zeros((16, 32), dtype=np.uint8))
        assert "16 x 16" in reason(larger) or said == RLELossless
        reason(encoded(tmp_path, said, packed[said][: len(packed[said]) // 2]))


def test_lossless_jpeg_that_would_abort_its_decoder_or_make_it_print_is_refused_in_silence(tmp_path, capfd):
    wide = np.random.default_rng(4).integers(0, 4096, (16, 16)).astype(np.uint16)
    made = pydicom.dcmread(make_dicom(tmp_path / "made.dcm", wide, syntax=JPEGLosslessSV1, bits_stored=12))
    frame = pydicom.encaps.get_frame(made.PixelData, 0, number_of_frames=1)
    table, middle = frame.index(b"\xff\xc4"), len(frame) // 2
    capfd.readouterr()
    stray = frame[: table + 2] + b"\x00\x02" + frame[table + 4 :]
    longer = frame[: table + 6] + b"\x01" + frame[table + 6 :]
    restarted = frame[:middle] + b"\xff\xd3" + frame[middle:]
    for broken in (stray, longer):
        assert "is damaged" in reason(encoded(tmp_path, JPEGLosslessSV1, broken, pixels=wide, bits_stored=12))
    with contextlib.suppress(DataError):
        decode_dicom(encoded(tmp_path, JPEGLosslessSV1, restarted, pixels=wide, bits_stored=12), "scan 7")
    assert tuple(capfd.readouterr()) == ("", "")


def test_compressed_bytes_that_claim_a_huge_image_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(header, "MAX_INFLATED", 1 << 23)

    def claim(dataset):
        dataset.Rows = dataset.Columns = 13_000

    assert "cannot hold" in reason(edit(tmp_path, change=claim, syntax=RLELossless))
    content = make_dicom(tmp_path / "image.dcm", RAMP, syntax=DeflatedExplicitVRLittleEndian).read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([packer.compress(bytes(1 << 22)) for _ in range(4)]) + packer.flush()
    assert reason(content[:start] + bomb) == "inflates to more than 8388608 bytes"


def test_facts_are_those_of_the_header(tmp_path):
    content = make_dicom(tmp_path / "image.dcm", np.zeros((3, 5), dtype=np.uint16), bits_stored=12).read_bytes()
    facts = read_facts(content, "image")
    assert facts == dicom.DicomFacts(3, 5, 12, "MONOCHROME2", "Explicit VR Little Endian", "DX", has_window=False)
    with pytest.raises(DataError, match=r"^image is not DICOM$"):
        read_facts(b"words", "image")


def test_versions_of_the_decoders_are_given_without_importing_them():
    code = (
        "import sys; from genmed.parts.data.dicom import decoder_versions; print(decoder_versions());"
        "assert not {'pydicom', 'gdcm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(decoder_versions())
    assert decoder_versions()[0] == f"pydicom {pydicom.__version__}"


def test_absent_pydicom_is_said_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.config", None)
    with pytest.raises(ConfigError) as refusal:  # no fault of the file's, for which it could be left out
        decode_dicom(b"", "scan 7")
    assert refusal.value.say() == (
        "scan 7 is DICOM, and pydicom is not installed (install genmed with its extra: pip install 'genmed[dicom]')"
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the shared real files")
def test_real_radiograph_and_its_monochrome1_twin_are_negatives():
    one, other = ((REAL / name).read_bytes() for name in ("rsna_monochrome2.dcm", "fake_monochrome1.dcm"))
    shown = decode_dicom(one, "one")
    assert shown.shape == (1024, 1024)
    assert np.array_equal(decode_dicom(other, "other"), 255 - shown)
    assert read_facts(one, "one").transfer_syntax == "JPEG Baseline (Process 1)"


def damage(content, dice):
    """Flip, cut out, cut off or double some bytes; half of the time near the header, where most of the meaning is."""
    broken = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(128, min(len(broken), 1400) if dice.random() < 0.5 else len(broken))
        kind = dice.randrange(5)
        if kind == 0:
            broken[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            broken[at] = dice.choice((0, 255, dice.randrange(256)))
        elif kind == 2:
            del broken[at : at + dice.choice((1, 2, 4, 30))]
        elif kind == 3:
            broken[at:at] = broken[at : at + dice.choice((1, 2, 8))]
        elif dice.random() < 0.3:
            del broken[at:]
        if len(broken) <= 129:
            break
    return bytes(broken)


def test_damaged_files_are_images_or_named_errors_in_silence(tmp_path, capfd):
    table = ([*range(16)], 0, 8)
    wide = np.random.default_rng(3).integers(0, 4096, (12, 10)).astype(np.uint16)
    made = [
        make_dicom(tmp_path / f"{number}.dcm", wide, bits_stored=12, syntax=syntax, window=([40, 50], [400, 90]))
        for number, syntax in enumerate((*NATIVE, *LOSSLESS))
    ]
    made.append(make_dicom(tmp_path / "jpeg.dcm", RAMP, syntax=JPEGBaseline8Bit))
    made.append(make_dicom(tmp_path / "table.dcm", RAMP, voi_lut=table, modality_lut=table, padding=(3, 5)))
    contents = [path.read_bytes() for path in made]
    contents += [path.read_bytes() for path in REAL.glob("*.dcm")]
    capfd.readouterr()
    dice, messages = random.Random(20), []
    for turn in range(400):
        broken = damage(contents[turn % len(contents)], dice)
        try:
            shown = decode_dicom(broken, "scan 7")
        except DataError as refusal:
            messages.append(refusal.message)
        else:
            facts = read_facts(broken, "scan 7")
            assert shown.dtype == np.uint8
            assert shown.shape == (facts.rows, facts.columns)
    assert 100 < len(messages) < 400
    assert all(message.startswith("scan 7 ") and message.isprintable() for message in messages)
    assert tuple(capfd.readouterr()) == ("", "")
