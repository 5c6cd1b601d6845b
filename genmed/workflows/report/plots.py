"""Figures as files for a paper."""

from collections.abc import Iterable
from pathlib import Path

from genmed.ground.files import storage_errors, write_bytes
from genmed.parts.report.figures import Figure


def write_figures(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Each as PNG and SVG, those that are there anew; the paths. Raises StorageError."""
    from genmed.parts.report.paper import draw_files

    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    written = []
    for figure in figures:
        for name, content in draw_files(figure).items():
            written.append(folder / name)
            write_bytes(written[-1], content)
    return written
