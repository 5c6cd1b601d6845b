"""Broken images and copies as a table, so that a person can go through them and mend the data."""

from collections.abc import Iterator
from pathlib import Path

from genmed.records.run_folder import write_table
from genmed.workflows.assemble import name_labels
from genmed.workflows.inspection.report import Check
from genmed.workflows.places import check_place

COLUMNS = ("kind", "group", "image", "patient", "side", "labels", "reason")


def write_findings(found: Check, path: Path) -> None:
    """A CSV file, one row an image. Raises StorageError where the file exists by now, or cannot be written."""
    check_place(path, "--csv", ".csv")
    write_table(path, COLUMNS, list_findings(found))


def list_findings(found: Check) -> Iterator[tuple[str, ...]]:
    """Rows of COLUMNS. kind: broken, equal or near; group: a number, '' of broken images; side: '' if left out."""
    table = found.table
    row_of = {name: row for row, name in enumerate(table.ids)}
    side_of = dict(zip(found.records.ids, found.sides.sides, strict=True))

    def describe(kind: str, group: str, image: str, reason: str = "") -> tuple[str, ...]:
        name, patient, _ = table.describe(row_of[image])
        return kind, group, name, patient, side_of.get(image, ""), name_labels(table, row_of[image]), reason

    for image, reason in found.broken.items():
        yield describe("broken", "", image, reason)
    groups = [*(("equal", group) for group in found.equal), *(("near", group) for group in found.near)]
    for number, (kind, group) in enumerate(groups, start=1):
        for image in group.images:
            yield describe(kind, str(number), image)
