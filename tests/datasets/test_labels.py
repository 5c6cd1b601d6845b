"""Labels, patients, sites, studies and sides of every preset, against a second reading of the same files."""

import csv
import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmed.ground.errors import ConfigError, DataError
from genmed.parts.data.datasets import chexpert, vinbigdata
from genmed.parts.data.datasets.medmnist import FLAGS
from genmed.parts.data.labelling import apply_choices, mark_cells, meaning_of_cells
from genmed.parts.data.split import split_records
from genmed.parts.data.tables import read_table
from genmed.records.config.sections import Labels as LabelsConfig
from tests.datasets import reading
from tests.datasets.making import (
    configure,
    load,
    make_chexpert,
    make_covidx,
    make_folder,
    make_manifest,
    make_medmnist,
    make_rsna,
    make_vinbigdata,
    write_rows,
)
from tests.make_nih import make_nih

BY_CLASS = {"Edema": "ones", "Atelectasis": "zeros", "default": "ignore"}


@pytest.fixture(scope="module")
def chexpert_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chexpert(tmp_path_factory.mktemp("chexpert"))


@pytest.mark.parametrize("uncertain", ["ignore", "ones", "zeros", BY_CLASS, {"Edema": "ones", "default": "zeros"}])
@pytest.mark.parametrize("blank", ["negative", "ignore"])
def test_chexperts_labels_are_as_the_config_reads_them(chexpert_root: Path, uncertain: Any, blank: str) -> None:
    records = load("chexpert", chexpert_root, labels__uncertain=uncertain, labels__blank=blank)
    assert reading.find_differences(records, reading.read_chexpert(chexpert_root, uncertain, blank)) == []
    assert (-1 in records.labels) == ("ignore" in (uncertain, blank) or uncertain is BY_CLASS)
    sides = split_records(records, configure("chexpert", chexpert_root).data).sides
    assert {name.split("/")[0] for name, side in zip(records.ids, sides, strict=True) if side == "test"} == {"valid"}


def test_chexpert_without_valid_csv_has_no_official_side(tmp_path: Path) -> None:
    root = make_chexpert(tmp_path / "CheXpert-v1.0", valid=0)
    records = load("chexpert", tmp_path)  # the folder above
    assert reading.find_differences(records, reading.read_chexpert(root)) == []
    assert "Without valid.csv" in records.notes[0]


@pytest.mark.parametrize("readers", ["majority", "any"])
def test_vinbigdatas_readers_are_joined_as_the_config_says(tmp_path: Path, readers: str) -> None:
    root = make_vinbigdata(tmp_path)
    records = load("vinbigdata", root, labels__readers=readers)
    assert reading.find_differences(records, reading.read_vinbigdata(root, readers)) == []


def test_half_of_the_readers_is_no_majority(tmp_path: Path) -> None:
    make_vinbigdata(tmp_path, 1)
    rows = [["00000000", "ILD", 5, "R1"], ["00000000", "ILD", 5, "R1"], ["00000000", "No finding", 14, "R2"]]
    write_rows(tmp_path / "train.csv", ("image_id", "class_name", "class_id", "rad_id"), rows)
    assert load("vinbigdata", tmp_path).labels.sum() == 0
    assert load("vinbigdata", tmp_path, labels__readers="any").labels[0].tolist() == [0] * 5 + [1] + [0] * 8


def test_rsnas_boxes_are_one_label_an_image(tmp_path: Path) -> None:
    root = make_rsna(tmp_path)
    assert reading.find_differences(load("rsna", root), reading.read_rsna(root)) == []


@pytest.mark.parametrize("kind", ["binary", "multi-class"])
@pytest.mark.parametrize("val", [True, False])
def test_covidxs_lists_give_labels_sources_and_sides(tmp_path: Path, kind: str, val: bool) -> None:
    root = make_covidx(tmp_path, kind, val)
    records = load("covidx", root)
    assert records.task == kind
    assert reading.find_differences(records, reading.read_covidx(root)) == []


@pytest.mark.parametrize("sides", [(), ("train", "test"), ("train", "val", "test")])
def test_folders_are_classes(tmp_path: Path, sides: tuple[str, ...]) -> None:
    root = make_folder(tmp_path, sides, 3)
    assert reading.find_differences(load("folder", root), reading.read_folder(root)) == []


@pytest.mark.parametrize("form", ["columns", "delimited", "classes", "split"])
def test_manifests_columns_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    root = make_manifest(tmp_path, form)
    records = load("manifest", root, manifest__delimiter=";")
    assert records.task == {"classes": "multi-class"}.get(form, "multi-label")
    assert reading.find_differences(records, reading.read_manifest(root, form)) == []


def test_studies_of_two_patients_are_two_though_their_numbers_are_equal(tmp_path: Path) -> None:
    records = load("manifest", make_manifest(tmp_path, "split"))
    assert len(set(records.studies)) == 60
    assert set(zip(records.patients, records.studies, strict=True)) == {
        (name.split("/")[0], name) for name in records.studies
    }


def test_images_of_one_study_are_on_one_side_where_nobody_names_the_patient(tmp_path: Path) -> None:
    root = make_manifest(tmp_path, "split")
    table = (root / "manifest.csv").read_text().replace("path,patient,site,study,split", "path,study,site,x,split_of")
    (root / "manifest.csv").write_text(table)
    records = load("manifest", root, manifest__labels=("mass", "nodule"))
    assert (records.patients, records.groups) == ((), records.studies)
    assert len(set(records.groups)) == 30


@pytest.mark.parametrize("flag", FLAGS)
def test_medmnists_labels_are_those_of_its_arrays(tmp_path: Path, flag: str) -> None:
    root = make_medmnist(tmp_path, flag)
    assert reading.find_differences(load(f"medmnist:{flag}", root), reading.read_medmnist(root, flag)) == []


def test_nihs_lists_and_findings_are_read(tmp_path: Path) -> None:
    root = make_nih(tmp_path)
    assert reading.find_differences(load("nih", root), reading.read_nih(root)) == []
    names = sorted(path.name for path in (root / "images").iterdir())
    (root / "test_list.txt").write_text("\n".join(names[60:]))
    (root / "train_val_list.txt").write_text("\n".join(names[:60]))
    assert reading.find_differences(load("nih", root), reading.read_nih(root)) == []


# Real tables


def unpack(shared_data: Path, name: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.decompress((shared_data / "metadata" / name).read_bytes()))
    return path


def test_chexperts_whole_table_is_read_right(shared_data: Path, tmp_path: Path) -> None:
    path = unpack(shared_data, "chexpert_train.csv.gz", tmp_path / "train.csv")
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    code = {"": 0, "0.0": 1, "1.0": 2, "-1.0": 3}
    cells = np.array([[code[cell] for cell in row[5:]] for row in rows], dtype=np.int8)
    assert header[5:] == list(chexpert.CLASSES)
    for uncertain, blank in (("ones", "negative"), (BY_CLASS, "ignore")):
        config = configure("chexpert", tmp_path, labels__uncertain=uncertain, labels__blank=blank)
        places, labels, traits = chexpert._read(tmp_path / "train.csv", config)
        names = places.names
        assert traits["sex"] == tuple({"Female": "F", "Male": "M", "Unknown": ""}[row[1]] for row in rows)
        assert traits["age"] == tuple(row[2] for row in rows)
        assert traits["view"] == tuple(row[4] if row[3] == "Frontal" else "LATERAL" for row in rows)
        assert names == ["/".join(row[0].split("/")[1:]) for row in rows]
        assert len(names) == 223_414
        assert len({name.split("/")[1] for name in names}) == 64_540
        for column, label in enumerate(chexpert.CLASSES):
            rule = uncertain if isinstance(uncertain, str) else uncertain.get(label, "ignore")
            of = {
                "1.0": 1,
                "0.0": 0,
                "-1.0": {"ones": 1, "zeros": 0}.get(rule, -1),
                "": 0 if blank == "negative" else -1,
            }
            for text, wanted in of.items():
                assert (labels[cells[:, column] == code[text], column] == wanted).all(), (label, text)


@pytest.mark.parametrize("readers", ["majority", "any"])
def test_vinbigdatas_whole_table_is_joined_right(shared_data: Path, tmp_path: Path, readers: str) -> None:
    path = unpack(shared_data, "vinbigdata-train.csv.gz", tmp_path / "train.csv")
    table = read_table(path, ("image_id", "class_name", "class_id", "rad_id"), keep=())
    ids = sorted(set(table.columns["image_id"]))
    assert (len(table), len(ids)) == (67_914, 15_000)
    labels = vinbigdata._join_readers(table, ids, readers)
    votes: Counter[tuple[str, str]] = Counter()
    voters: dict[str, set[str]] = {}
    with open(path, newline="") as file:
        found = {(row["image_id"], row["class_name"], row["rad_id"]) for row in csv.DictReader(file)}
    for image, label, reader in found:
        votes[image, label] += 1
        voters.setdefault(image, set()).add(reader)
    assert {len(named) for named in voters.values()} == {3}
    for row, image in enumerate(ids):
        least = 2 if readers == "majority" else 1
        assert labels[row].tolist() == [int(votes[image, label] >= least) for label in vinbigdata.CLASSES], image


def test_nihs_whole_table_is_read_right(shared_data: Path, tmp_path: Path) -> None:
    path = unpack(shared_data, "Data_Entry_2017_v2020.csv.gz", tmp_path / "Data_Entry_2017_v2020.csv")
    names = [line.partition(",")[0] for line in path.read_text().splitlines()[1:]]
    (tmp_path / "images").mkdir()
    for name in names[::100]:
        (tmp_path / "images" / name).touch()
    records = load("nih", tmp_path, data__on_mismatch="skip")
    assert len(records) == len(names[::100]) == 1_122
    assert reading.find_differences(records, reading.read_nih(tmp_path)) == []


# What the config may choose


def test_text_that_is_no_label_is_told_with_its_line_and_class(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,0\n1,2\n")
    table = read_table(path)
    with pytest.raises(DataError, match=r"t\.csv, line 3: b is '2', which is no label"):
        mark_cells(table, table.columns, lambda name: meaning_of_cells(LabelsConfig(), name))


def test_table_without_rows_gives_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    table = read_table(path)
    labels = mark_cells(table, table.columns, lambda name: meaning_of_cells(LabelsConfig(), name))
    assert (labels.shape, labels.dtype) == ((0, 2), np.int8)


def test_classes_are_chosen_with_their_own_labels(chexpert_root: Path) -> None:
    records = load("chexpert", chexpert_root)
    chosen = apply_choices(records, LabelsConfig(classes=("Edema", "Cardiomegaly")))
    assert chosen.classes == ("Edema", "Cardiomegaly")
    assert np.array_equal(chosen.labels, records.labels[:, [5, 2]])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"classes": ("Oedema",)}, "labels.classes names 'Oedema', which is no class"),
        ({"classes": ("Edema", "Edema")}, "names a class twice"),
        ({"uncertain": {"Oedema": "ones"}}, "labels.uncertain names 'Oedema', which is no class"),
        ({"task": "ordinal"}, "labels.task is ordinal, but the data are multi-label"),
        ({"task": "binary"}, "labels.task is binary, but the data are multi-label"),
    ],
)
def test_choice_that_the_data_do_not_have_is_refused(chexpert_root: Path, labels: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_choices(load("chexpert", chexpert_root), LabelsConfig(**labels))
    assert told in caught.value.message
