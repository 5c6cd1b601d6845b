"""Reading the small dataset in NIH's layout, and changing copies of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genmed.parts.data.datasets import nih as reader
from genmed.parts.data.records import Records
from genmed.records.config import Config

TABLE = "Data_Entry_2017_v2020.csv"


def config_of(root: Path, **data: Any) -> Config:
    """Of the NIH dataset at `root`, with other values of the section `data`."""
    chosen = {"dataset": "nih", "root": str(root), "image_size": 16, **data}
    return Config().replace(**{f"data.{key}": value for key, value in chosen.items()})


def read(root: Path, **data: Any) -> Records:
    return reader.load_records(root, config_of(root, **data))


def write_lists(root: Path, in_test: Callable[[str], bool]) -> None:
    """Official lists; in_test: whether an image is in the test list."""
    names = read(root).ids
    (root / "test_list.txt").write_text("".join(f"{name}\r\n" for name in names if in_test(name)))
    (root / "train_val_list.txt").write_text("\n".join(name for name in names if not in_test(name)))
