"""The phantom is one fixed dataset: the same bits everywhere, with patients, sites and findings as real ones have."""

import ast
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from genmed.ground.fingerprints import digest_bytes
from genmed.parts.data.datasets import phantom
from genmed.parts.data.datasets.phantom import CLASSES, SITES, SIZE, PhantomRecords, draw_image, draw_records

# digest_bytes of all images' bytes in the order of their rows, then of repr((ids, patients, sites, labels.tolist())).
# The same for every NumPy >= 2.0 and every CPU. Who means to change it raises VERSION and prints the two new digests.
IMAGES_DIGEST = "sha256:ec42fa323c9670f459edfd9dc18da6dfd23d6292a678f9dc1fd45b159bd1427d"
RECORDS_DIGEST = "sha256:e52f06dbeea2c0de3b5a242f3cd3ec0b9cb0f3f0effc227abbc1e27db08a81de"

EXACT_NUMPY = {
    "abs",
    "arange",
    "array",
    "clip",
    "float64",
    "floor",
    "int64",
    "int8",
    "maximum",
    "minimum",
    "rint",
    "sqrt",
    "uint8",
    "where",
}
INEXACT = set(
    "sin cos tan tanh arctan arctan2 hypot exp exp2 log log2 log10 power pow float_power sum nansum cumsum".split()
)
INEXACT |= set(
    "mean average std var dot vdot matmul inner einsum tensordot convolve interp linspace random fma".split()
)


@pytest.fixture(scope="module")
def records() -> PhantomRecords:
    return draw_records()


@pytest.fixture(scope="module")
def images(records: PhantomRecords) -> npt.NDArray[np.uint8]:
    return np.stack([draw_image(index) for index in range(len(records.ids))])


def test_images_have_the_pinned_digest(images: npt.NDArray[np.uint8]) -> None:
    assert images.dtype == np.uint8
    assert images.shape[1:] == (SIZE, SIZE)
    assert digest_bytes(images.tobytes()) == IMAGES_DIGEST


def test_records_have_the_pinned_digest(records: PhantomRecords) -> None:
    columns = (records.ids, records.patients, records.sites, records.labels.tolist())
    assert digest_bytes(repr(columns).encode()) == RECORDS_DIGEST


def test_drawing_uses_only_arithmetic_that_is_exact_everywhere() -> None:
    tree = ast.parse(Path(phantom.__file__).read_text())
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    of_numpy = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "np"}
    names = {node.attr for node in attributes} | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    sources = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    operators = {type(node.op) for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)}
    assert of_numpy <= EXACT_NUMPY
    assert not names & INEXACT
    assert imported <= {"functools", "numpy", "numpy.typing"}
    assert not {source for source in sources if source in ("math", "cmath", "random") or source.startswith("numpy")}
    assert operators <= {ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitOr}


def test_draw_image_does_not_depend_on_the_calls_before(images: npt.NDArray[np.uint8]) -> None:
    for index in (1700, 3, 3, 0, 901, 902, 3):
        assert np.array_equal(draw_image(index), images[index])


def test_a_drawn_image_belongs_to_the_caller() -> None:
    first = draw_image(5)
    first[:] = 0
    assert draw_image(5).any()


def test_labels_cannot_be_changed_by_a_caller(records: PhantomRecords) -> None:
    with pytest.raises(ValueError, match="read-only"):
        records.labels[0, 0] = 1


def test_ids_are_unique_and_sorted_and_name_their_patient(records: PhantomRecords) -> None:
    assert records.ids == sorted(set(records.ids))
    assert [identifier[:-3] for identifier in records.ids] == records.patients
    assert records.labels.shape == (len(records.ids), len(CLASSES))
    assert set(np.unique(records.labels)) == {0, 1}


def test_patients_have_several_images_at_one_site(records: PhantomRecords) -> None:
    counts = Counter(Counter(records.patients).values())
    assert 1800 <= len(records.ids) <= 2200
    assert len(set(records.patients)) == 700
    assert set(counts) == set(range(1, 8))
    assert counts[1] > 2 * counts[4]
    sites = defaultdict(set)
    for patient, site in zip(records.patients, records.sites, strict=True):
        sites[patient].add(site)
    assert {len(of_patient) for of_patient in sites.values()} == {1}
    assert 0.5 < records.sites.count(SITES[0]) / len(records.sites) < 0.7


def test_prevalences_and_overlap_are_those_of_a_clinic(records: PhantomRecords) -> None:
    prevalence = records.labels.mean(axis=0)
    assert ((prevalence > 0.10) & (prevalence < 0.25)).all()
    assert 0.45 < (records.labels.sum(axis=1) == 0).mean() < 0.60
    cardiomegaly, effusion = (
        records.labels[:, CLASSES.index("Cardiomegaly")],
        records.labels[:, CLASSES.index("Effusion")],
    )
    assert effusion[cardiomegaly == 1].mean() > 2.5 * effusion[cardiomegaly == 0].mean()


def test_findings_mostly_stay_with_a_patient(records: PhantomRecords) -> None:
    same = np.array(records.patients)[1:] == np.array(records.patients)[:-1]
    before, after = records.labels[:-1][same], records.labels[1:][same]
    assert after[before == 1].mean() > 0.75
    assert after[before == 0].mean() < 0.06
    assert (before != after).any()


def test_images_of_a_patient_resemble_each_other_but_differ(
    records: PhantomRecords, images: npt.NDArray[np.uint8]
) -> None:
    plain = np.flatnonzero((records.labels.sum(axis=1) == 0) & (np.array(records.sites) == SITES[0]))
    middle = images[:, 16:56, 8:56].astype(np.float64)
    pairs = list(itertools.pairwise(plain))
    distances = {
        same: np.mean(
            [
                np.abs(middle[a] - middle[b]).mean()
                for a, b in pairs
                if (records.patients[a] == records.patients[b]) == same
            ]
        )
        for same in (True, False)
    }
    assert 5 < distances[True] < 0.9 * distances[False]


def test_sites_differ_in_contrast_noise_and_marker(records: PhantomRecords, images: npt.NDArray[np.uint8]) -> None:
    north, south = (images[np.array(records.sites) == site].astype(np.float64) for site in SITES)
    assert south.std(axis=(1, 2)).mean() > 1.1 * north.std(axis=(1, 2)).mean()
    noise = [np.abs(np.diff(of_site[:, 54:, 16:48], axis=2)).mean() for of_site in (north, south)]
    assert noise[1] > 1.5 * noise[0]
    left, right = np.s_[:, 2:12, 2:12], np.s_[:, 2:12, -12:-2]
    assert north[left].max(axis=(1, 2)).mean() > 1.2 * north[right].max(axis=(1, 2)).mean()
    assert south[right].max(axis=(1, 2)).mean() > 1.2 * south[left].max(axis=(1, 2)).mean()


def test_each_finding_changes_the_picture(records: PhantomRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    for column, name in enumerate(CLASSES):
        index = int(np.flatnonzero(records.labels[:, column])[0])
        labels = records.labels.copy()
        labels[index, column] = 0
        without = PhantomRecords(records.ids, records.patients, records.sites, labels)
        with monkeypatch.context() as patch:
            patch.setattr(phantom, "draw_records", lambda without=without: without)
            healthy = draw_image(index)
        changed = np.abs(draw_image(index).astype(int) - healthy.astype(int)) >= 8
        assert changed.sum() >= 12, name


def test_facts_give_the_same_records_and_images(records: PhantomRecords, tmp_path: Path) -> None:
    loaded = phantom.FACTS.load_records(tmp_path / "absent", None)
    assert loaded.ids == tuple(records.ids)
    assert loaded.images.stamp(7) is None
    assert np.array_equal(loaded.images.read(7).pixels, draw_image(7))
    assert len({loaded.images.digest(row) for row in range(20)}) == 20
