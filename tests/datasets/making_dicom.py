"""DICOM files for tests: small, whole, and of any kind that the reader has to know."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def make_dicom(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    signed: bool = False,
    window: tuple[float | list[float], float | list[float]] | None = None,
    voi_function: str | None = None,
    voi_lut: tuple[Sequence[int], int, int] | None = None,
    modality_lut: tuple[Sequence[int], int, int] | None = None,
    rescale: tuple[float, float] | None = None,
    padding: int | tuple[int, int] | None = None,
    presentation: str | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    frames: int = 1,
    patient_id: str = "p1",
    modality: str = "DX",
) -> Path:
    """Write one file and return its path.

    pixels: (H, W) stored values, or (H, W, 3) of RGB; 8 bits are allocated to 8-bit arrays and 16 to all others.
    window: (centre, width), each a number or a list of them. A table is (entries, first value mapped, bits of an
    entry). padding: a value, or the first and the last of a range. With `frames`, the pixels are repeated.
    gdcm's encoders want an even number of pixels. JPEG is lossy; what is in LOSSLESS gives back what was given.
    """
    dataset = _describe(pixels, photometric, bits_stored, signed)
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient_id, patient_id, modality
    pad = "SS" if signed else "US"
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = rescale[0], rescale[1], "US"
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    if voi_function is not None:
        dataset.VOILUTFunction = voi_function
    if voi_lut is not None:
        dataset.VOILUTSequence = [_table(*voi_lut)]
    if modality_lut is not None:
        dataset.ModalityLUTSequence = [_table(*modality_lut)]
    if padding is not None:
        first, last = padding if isinstance(padding, tuple) else (padding, None)
        dataset.add_new("PixelPaddingValue", pad, first)
        if last is not None:
            dataset.add_new("PixelPaddingRangeLimit", pad, last)
    if presentation is not None:
        dataset.PresentationLUTShape = presentation
    if frames > 1:
        dataset.NumberOfFrames = frames
    by_gdcm = syntax in (JPEGLosslessSV1, JPEGLSLossless)
    _set_pixels(dataset, pixels, ExplicitVRLittleEndian if by_gdcm else syntax, frames)
    dataset.save_as(path, enforce_file_format=True)
    if by_gdcm:
        compress_by_gdcm(path, syntax)
    return path


def _describe(pixels: npt.NDArray[Any], photometric: str, bits_stored: int | None, signed: bool) -> Dataset:
    allocated = 8 if pixels.dtype.itemsize == 1 else 16
    dataset = Dataset()
    dataset.SOPClassUID = SECONDARY_CAPTURE
    dataset.SOPInstanceUID = "1.2.3.4"  # the same for every file, so that equal calls give equal bytes
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = allocated
    dataset.BitsStored = bits_stored or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(signed)
    return dataset


def _table(entries: Sequence[int], first: int, bits: int) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) & 0xFFFF, first, bits])
    if first < 0 and len(entries) > 0x7FFF:
        raise ValueError("a table from below 0 has at most 32767 entries")
    table.add_new("LUTData", "OW", np.asarray(entries, dtype="<u2").tobytes())
    return table


def _set_pixels(dataset: Dataset, pixels: npt.NDArray[Any], syntax: UID, frames: int) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax in (JPEGBaseline8Bit, JPEG2000Lossless):
        dataset.PixelData = encapsulate([_compress_by_pillow(pixels, syntax)] * frames)
        dataset["PixelData"].VR = "OB"
        return
    kind = np.uint8 if dataset.BitsAllocated == 8 else np.uint16
    words = pixels.astype(kind)
    raw = words.astype(words.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes() * frames
    if syntax in NATIVE:
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
        dataset["PixelData"].VR = "OB" if kind is np.uint8 and syntax != ImplicitVRLittleEndian else "OW"
        if syntax == ExplicitVRBigEndian:
            for sequence in ("VOILUTSequence", "ModalityLUTSequence"):
                for item in dataset.get(sequence, []):
                    item.LUTData = np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()
    elif syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = raw
        signed = words.view(np.dtype(f"i{words.itemsize}")) if dataset.PixelRepresentation else words
        dataset.compress(RLELossless, signed, encoding_plugin="pydicom", generate_instance_uid=False)


def _compress_by_pillow(pixels: npt.NDArray[Any], syntax: UID) -> bytes:
    packed = io.BytesIO()
    if syntax == JPEGBaseline8Bit:
        Image.fromarray(pixels.astype(np.uint8)).save(packed, "JPEG", quality=95)
    else:
        kind = np.uint8 if pixels.dtype.itemsize == 1 else np.uint16
        Image.fromarray(pixels.astype(kind)).save(packed, "JPEG2000", irreversible=False, no_jp2=True, mct=0)
    return packed.getvalue()


def compress_by_gdcm(path: Path, syntax: UID) -> None:
    """Turn an uncompressed file into JPEG lossless or JPEG-LS, for which neither pydicom nor Pillow has an encoder."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError(f"gdcm does not read {path}")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"gdcm does not encode {syntax.name}")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    frame = fragments.GetFragment(0).GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
