"""Which classes of two datasets are one finding."""

import pytest

from genmed.ground.errors import RequestError
from genmed.parts.data.datasets import DATASETS
from genmed.parts.data.synonyms import match_classes


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (("Effusion",), ("Pleural Effusion",), {"Effusion": "Pleural Effusion"}),
        (("Pleural_Thickening",), ("Pleural thickening",), {"Pleural_Thickening": "Pleural thickening"}),
        (("Fibrosis", "Mass"), ("Pulmonary fibrosis", "Nodule/Mass"), {"Fibrosis": "Pulmonary fibrosis"}),
        (("Edema",), ("Oedema", "Edema"), {"Edema": "Edema"}),
        (("Pneumonia",), ("Lung Opacity", "Consolidation"), {}),
    ],
)
def test_one_finding_under_two_names_is_matched_and_a_wider_one_is_not(
    ours: tuple[str, ...], theirs: tuple[str, ...], found: dict[str, str]
) -> None:
    assert match_classes(ours, theirs, {}) == found


def test_nih_and_chexpert_share_these() -> None:
    found = match_classes(DATASETS["nih"].classes, DATASETS["chexpert"].classes, {})
    assert set(found) == {
        "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Pneumonia", "Pneumothorax",
    }  # fmt: skip


def test_two_names_of_one_finding_on_one_side_must_be_told_apart() -> None:
    with pytest.raises(RequestError, match="Effusion may be Pleural Effusion or pleural_effusion"):
        match_classes(["Effusion"], ["Pleural Effusion", "pleural_effusion"], {})
    chosen = {"Effusion": "pleural_effusion"}
    assert match_classes(["Effusion"], ["Pleural Effusion", "pleural_effusion"], chosen) == chosen
