"""What the config makes of a dataset's records: classes, tasks, studies, patients, what is unknown."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.records import Records
from genmed.records.config import Config
from genmed.workflows.assemble import load_data, read_records
from genmed.workflows.bundle import trusted_config
from genmed.workflows.configure import configure
from genmed.workflows.reporting import Silent


def write_table(root: Path, lines: list[str]) -> Path:
    """A manifest whose first column is the path; the images are made."""
    root.mkdir(exist_ok=True)
    for line in lines[1:]:
        path = root / line.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), hash(line) % 256).save(path)
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def config_of(root: Path, **values: Any) -> Config:
    chosen = {key.replace("__", "."): value for key, value in values.items()}
    return Config().replace(**{"data.dataset": "manifest", "data.root": str(root), "data.image_size": 8, **chosen})


def read(root: Path, **values: Any) -> Records:
    return read_records(config_of(root, **values))


def test_studies_are_told_apart_by_patient_however_the_patients_are_known(tmp_path: Path) -> None:
    lines = ["path,study,finding", "p1/a.png,1,1", "p1/b.png,1,0", "p2/c.png,1,0"]
    known = read(write_table(tmp_path / "path", lines), data__patient_pattern=r"p\d")
    assert known.studies == ("p1/1", "p1/1", "p2/1")
    named = ["path,patient,study,finding", "a.png,p1,1,1", "b.png,p1,1,0", "c.png,p2,1,0"]
    assert read(write_table(tmp_path / "column", named)).studies == known.studies


def test_study_stays_on_one_side_where_nobody_knows_the_patients(tmp_path: Path) -> None:
    lines = ["path,study,finding", *(f"{number}.png,s{number // 4},{number % 2}" for number in range(60))]
    data = load_data(config_of(write_table(tmp_path / "data", lines)), Silent(), trust_stamps=True)
    assert data.split.source.startswith("by study, for the data name no patients")
    for study in set(data.records.studies):
        rows = [row for row, name in enumerate(data.records.studies) if name == study]
        assert len({data.split.sides[row] for row in rows}) == 1


def test_blank_word_is_unknown_where_the_config_says_so(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data", ["path,kind", "a.png,x", "b.png,", "c.png,y"])
    ignored = read(root, labels__blank="ignore")
    assert (ignored.task, ignored.labels.tolist()) == ("multi-class", [[1, 0], [-1, -1], [0, 1]])
    with pytest.raises(DataError, match=r"manifest.csv, line 3: no kind, where each other row names one class"):
        read(root)
    none = read(root, labels__task="multi-label")
    assert (none.task, none.labels.tolist()) == ("multi-label", [[1, 0], [0, 0], [0, 1]])


def test_order_of_grades_is_the_one_that_is_named_and_not_the_alphabet_s(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data", ["path,grade", "a.png,severe", "b.png,mild", "c.png,none"])
    with pytest.raises(ConfigError, match="nobody says in which order"):
        read(root, labels__task="ordinal")
    with pytest.raises(ConfigError, match="leaves out 'none'"):
        read(root, labels__task="ordinal", labels__classes=("mild", "severe"))
    graded = read(root, labels__task="ordinal", labels__classes=("none", "mild", "severe"))
    assert graded.classes == ("none", "mild", "severe")
    assert graded.labels.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_of_two_classes_the_second_is_scored_as_binary(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data", ["path,kind", "a.png,sick", "b.png,well", "c.png,sick"])
    chosen = read(root, labels__task="binary", labels__classes=("well", "sick"))
    assert (chosen.classes, chosen.labels.tolist()) == (("sick",), [[1], [0], [1]])


def test_some_classes_of_many_are_trained_in_the_order_named(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data", ["path,a,b,c", "a.png,1,0,-1", "b.png,0,1,1"])
    chosen = read(root, labels__classes=("c", "a"), labels__uncertain={"c": "ones"})
    assert (chosen.classes, chosen.labels.tolist()) == (("c", "a"), [[1, 1], [1, 0]])


def test_table_outside_of_the_data_is_found_from_any_folder_and_is_no_part_of_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_table(tmp_path / "data", ["path,a", *(f"{number}.png,{number % 2}" for number in range(9))])
    (root / "manifest.csv").rename(tmp_path / "manifest.csv")
    monkeypatch.chdir(tmp_path)
    flags = {"data.dataset": "manifest", "data.root": "data", "data.image_size": 16}
    config = configure(flags, settings=["manifest.file=manifest.csv"], environ={}).config
    assert config.manifest.file == str(tmp_path / "manifest.csv")
    os.chdir("/")
    assert len(read_records(config)) == 9
    inside = config.replace(**{"manifest.file": "manifest.csv"})
    assert inside.fingerprint == config.fingerprint
    (tmp_path / "manifest.csv").rename(root / "manifest.csv")
    assert trusted_config(config, root).fingerprint == config.fingerprint


OWN = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from genmed.parts.data.records import DatasetFacts, RawImage, Records

VALUE = 10

@dataclass(frozen=True)
class Images:
    count: int
    def stamp(self, row): return (1, 1, row)
    def digest(self, row): return "sha256:" + "0" * 63 + "1"
    def read(self, row): return RawImage(np.full((8, 8), VALUE, np.uint8), self.digest(row))
    def decoders(self): return ()

def load_records(root, config):
    names = tuple(f"{n:02d}" for n in range(30))
    return Records(names, ("a",), np.zeros((30, 1), np.int8), Images(30), root=root)

FACTS = DatasetFacts("own", "Own", load_records, "nothing", "none", "none")
"""


def test_bytes_decoded_by_former_code_are_not_taken_for_those_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENMED_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "own.py"
    for value in (10, 200):
        file.write_text(OWN.replace("VALUE = 10", f"VALUE = {value}"))
        config = config_of(tmp_path, data__dataset=f"{file}:FACTS")
        data = load_data(config, Silent(), trust_stamps=True)
        assert set(np.unique(data.images.read(slice(None)))) == {value}
