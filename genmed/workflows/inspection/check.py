"""check: reads all of a dataset and says what is in it, and what a training should not be begun with.

Nothing is written, and no pixels are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from genmed.ground.wording import name_some, say_count
from genmed.parts.data.counts import compare_counts, tell_wrong_counts
from genmed.parts.data.datasets import find_dataset
from genmed.parts.data.images import ImageFiles
from genmed.parts.data.npz import NpzImages
from genmed.parts.data.records import SPLITS, ChosenImages, Records
from genmed.records.config import Config
from genmed.records.environment.cores import count_usable_processors
from genmed.workflows.assemble import read_records
from genmed.workflows.inspection.groups import Group, find_equal_groups, find_near_groups
from genmed.workflows.inspection.looking import Look, look_at_images
from genmed.workflows.inspection.report import (
    Check,
    count_depths,
    count_labels,
    count_sizes,
)
from genmed.workflows.inspection.sides import Sides, find_sides
from genmed.workflows.oddities import find_unlearnable
from genmed.workflows.reporting import Reporter

LEAST_BITS = 9  # of `data.bits`
MOSTLY = 0.5


def check_data(config: Config, reporter: Reporter) -> Check:
    """Decodes every image. Raises DataError where the folder is not of this dataset, ConfigError."""
    facts = find_dataset(config.data.dataset)
    table = records = read_records(config)
    sides = find_sides(records, config.data)
    processes = max(config.compute.num_workers, count_usable_processors())
    looks = look_at_images(records.images, len(records), processes, reporter.progress)
    broken = {row: look.reason for row, look in enumerate(looks) if look.reason}
    named = {records.ids[row]: reason for row, reason in broken.items()}
    if broken and config.data.on_bad_image == "skip":
        records = records.leave_out(broken)
        looks = [look for look in looks if not look.reason]
        sides = find_sides(records, config.data)

    def compare(done: int, total: int) -> None:
        reporter.progress("comparing images", len(records) * done // max(total, 1), len(records))

    equal = find_equal_groups(looks, records, sides.sides)
    near = find_near_groups(looks, records, sides.sides, compare)
    depths = count_depths(looks)
    counts = compare_counts(facts, records, sides.sides, sides.official)
    in_colour = sum(look.in_colour for look in looks)
    return Check(
        facts=facts,
        root=config.data.root,
        table=table,
        records=records,
        sides=sides,
        classes=count_labels(records, sides.sides),
        sizes=count_sizes(looks),
        depths=depths,
        colour=in_colour,
        monochrome1=sum(look.photometric == "MONOCHROME1" for look in looks),
        formats=_count_formats(records),
        equal=equal,
        near=near,
        broken=named,
        counts=counts,
        problems=[
            *_list_problems(sides, len(named) - len(records.left_out), equal, near),
            *_judge_labels(records, sides),
        ],
        notes=[
            *records.notes,
            *_note_left_out(records),
            *_note_depths(looks, config.data.bits),
            *_note_dicom(looks, config.data.bits),
            *_note_colour(records, in_colour),
            *_note_labels(records, sides),
            *_note_groups(equal, near),
            *tell_wrong_counts(facts, counts),
        ],
    )


def _count_formats(records: Records) -> dict[str, int]:
    images = records.images
    rows: Sequence[int] = range(len(records))
    if isinstance(images, ChosenImages):
        rows, images = images.rows, images.source
    if isinstance(images, ImageFiles):
        return dict(sorted(Counter(Path(images.names[row]).suffix.lower() for row in rows).items()))
    return {images.path.suffix: len(records)} if isinstance(images, NpzImages) else {}


def _list_problems(sides: Sides, broken: int, equal: Sequence[Group], near: Sequence[Group]) -> list[str]:
    """With what a training would stop, or its test be no test."""
    told = []
    if broken:
        told.append(f"{say_count(broken, 'image')} cannot be read")
    for units, apart in (("patient", sides.patients_apart), ("study", sides.studies_apart)):
        if apart:
            told.append(f"{say_count(len(apart), units)} on several sides of the split (a leak): {name_some(apart)}")
    told += [f"the {side} side of the split has no images" for side in sides.empty]
    for what, groups in (("equal", equal), ("nearly equal", near)):
        leaks = [group for group in groups if group.across_sides]
        if leaks:
            first = " and ".join(leaks[0].images[:2])
            told.append(
                f"{say_count(len(leaks), 'group')} of {what} images across sides of the split (a leak): {first}"
            )
    for what, groups in (("equal", equal), ("nearly equal", near)):
        if wrong := [group for group in groups if _is_mislabelled(group, what == "equal")]:
            many = say_count(len(wrong), "group")
            told.append(f"{many} of {what} images with labels that contradict each other: {name_some(wrong[0].images)}")
    return told


def _judge_labels(records: Records, sides: Sides) -> list[str]:
    """What keeps a training from learning all classes, or any; a class that no image has is only a note."""
    if told := find_unlearnable(records, sides.sides):
        return [told]
    negative = (records.labels == 0).any(0)
    always = [name for name, known in zip(records.classes, negative, strict=True) if not known]
    present = [name for name in always if (records.labels[:, records.classes.index(name)] == 1).any()]
    return [f"no image is known to be without {name_some(present)}: nothing can be learned of it"] if present else []


def _is_mislabelled(group: Group, equal: bool) -> bool:
    """Whether a label must be wrong. Near images of one patient may be two takes, of which one alone shows a finding;
    of two patients they are one picture."""
    return group.labels_differ and (equal or group.across_patients is True)


def _note_left_out(records: Records) -> list[str]:
    if not records.left_out:
        return []
    return [
        f"Left out: {say_count(len(records.left_out), 'image')} that cannot be read ({name_some([*records.left_out])})"
    ]


def _note_groups(equal: Sequence[Group], near: Sequence[Group]) -> list[str]:
    told = []
    for what, groups in (("equal", equal), ("nearly equal", near)):
        inside = sum(not group.across_sides for group in groups)
        if inside:
            told.append(f"{say_count(inside, 'group')} of {what} images within one side of the split")
        across = sum(group.across_patients is True for group in groups)
        if across:
            told.append(f"{say_count(across, 'group')} of {what} images across patients: is one person named twice?")
        differ = sum(group.labels_differ and not _is_mislabelled(group, what == "equal") for group in groups)
        if differ:
            told.append(f"{say_count(differ, 'group')} of {what} images with labels that contradict each other")
    return told


def _note_depths(looks: Sequence[Look], bits: int | None) -> list[str]:
    deep = [look for look in looks if look.bits == 16 and not look.photometric and not look.scaled]
    greatest = max((look.greatest for look in deep), default=None)
    if greatest is None:
        return []
    needed = max(greatest.bit_length(), LEAST_BITS)
    if bits is None and needed < 16:
        return [
            f"no 16-bit image exceeds {2**needed - 1}, so all are dark as 16 bits: --set data.bits={needed} if white is"
            f" {2**needed - 1}"
        ]
    if bits is not None and needed > bits:
        return [f"data.bits is {bits}, but there are values up to {greatest}: all above {2**bits - 1} is white"]
    return []


def _note_dicom(looks: Sequence[Look], bits: int | None) -> list[str]:
    """DICOM without a window that is dark or cut off, and DICOM whose window makes most of it white."""
    told = []
    for signed in (False, True):
        bare = [look for look in looks if not look.has_window and look.signed == signed]
        dark = [look for look in bare if look.greatest < 2 ** (look.bits - signed - 2)]
        if dark and bits is None:
            greatest, most = max(look.greatest for look in dark), max(2 ** (look.bits - signed) - 1 for look in dark)
            needed = max(greatest.bit_length() + signed, LEAST_BITS)
            told.append(
                f"{say_count(len(dark), 'image')} of DICOM without a window use a small part of their range (up to"
                f" {greatest} of {most}) and {'have little contrast' if signed else 'are dark'}:"
                f" --set data.bits={needed} if white is {2 ** (needed - signed) - 1}"
            )
        greatest = max((look.greatest for look in bare), default=0)
        if bits is not None and greatest.bit_length() + signed > bits:
            told.append(
                f"data.bits is {bits}, but DICOM without a window has values up to {greatest}: all above"
                f" {2 ** (bits - signed) - 1} is white"
            )
    if white := sum(look.has_window and look.white > MOSTLY for look in looks):
        told.append(
            f"{say_count(white, 'image')} of DICOM mostly white: more than half of the pixels lie above the window,"
            " which may be one for fewer bits than the image has"
        )
    return told


def _note_colour(records: Records, in_colour: int) -> list[str]:
    if in_colour and records.colour == "grey":
        return [f"{say_count(in_colour, 'image')} in colour, read as grey (--set data.colour=rgb keeps it)"]
    return []


def _note_labels(records: Records, sides: Sides) -> list[str]:
    told = []
    for side in SPLITS:
        rows = [row for row, there in enumerate(sides.sides) if there == side]
        without = [
            name
            for column, name in enumerate(records.classes)
            if rows and not (records.labels[rows, column] == 1).any()
        ]
        if without:
            told.append(f"the {side} side has no image with {name_some(without)}")
    if not records.patients:
        told.append("nobody knows the patients: one may be on two sides of the split (see data.patient_pattern)")
    return told
