"""Every preset is trained to its end on files in its real layout, and how they are read leaves the trace alone."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmed.parts.data.datasets.medmnist import FLAGS
from tests.datasets.making import PRESETS, make_chexpert
from tests.harness import TINY_MODEL, Genmed

SIZES = {"pathmnist at 64 px": 64, **dict.fromkeys(FLAGS, 28)}
ONE_EACH = {  # workers and cache are the same code for others of the same preset
    "nih",
    "chexpert",
    "vinbigdata",
    "rsna",
    "covidx of two classes",
    "folder with a split",
    "manifest of all",
    "bloodmnist",
}


def train(preset: str, root: Path, *more: object) -> list[object]:
    arguments: list[object] = ["train", *PRESETS[preset][1], "--data-root", root, "--model", TINY_MODEL]
    return [*arguments, "--image-size", SIZES.get(preset, 16), "--epochs", 1, "--batch-size", 8, "--json", *more]


@pytest.mark.parametrize("preset", PRESETS)
def test_training_reaches_its_end_with_one_trace_for_all_workers_and_caches(
    genmed: Genmed, tmp_path: Path, preset: str
) -> None:
    root = PRESETS[preset][0](tmp_path / "data")
    caches = [tmp_path / "cache one", tmp_path / "cache two"]
    varied = preset in ONE_EACH
    first = genmed.start(*train(preset, root, "--num-workers", 0), GENMED_CACHE=str(caches[0]))
    cold = varied and genmed.start(*train(preset, root, "--num-workers", 4), GENMED_CACHE=str(caches[1]))
    results = [first.wait()]
    if cold:
        warm = genmed(*train(preset, root, "--num-workers", 1), GENMED_CACHE=str(caches[0]))
        results += [cold.wait(), warm]
    for result in results:
        assert result.code == 0, result.err
        assert result.json["status"] == "completed"
        assert result.json["steps_done"] > 0
        assert {value is not None for name, value in result.json["metrics"].items() if name.endswith("_loss")} == {True}
        assert result.json["metrics"]["test_auroc_macro"] is not None
    assert len({result.json["trace_digest"] for result in results}) == 1
    assert len({json.dumps(result.json["metrics"]) for result in results}) == 1


def area_under_curve(scores: list[float], truth: list[int]) -> float | None:
    """The share of pairs in the right order, ties by half; None where there is one truth only."""
    ill = [score for score, label in zip(scores, truth, strict=True) if label]
    well = [score for score, label in zip(scores, truth, strict=True) if not label]
    won = sum((a > b) + (a == b) / 2 for a in ill for b in well)
    return won / (len(ill) * len(well)) if ill and well else None


@pytest.mark.parametrize("uncertain", ["ignore", "ones"])
def test_chexperts_metrics_are_of_the_highest_score_of_each_study(
    genmed: Genmed, tmp_path: Path, uncertain: str
) -> None:
    root = make_chexpert(tmp_path / "data", patients=60, valid=30)
    result = genmed(*train("chexpert", root, "--set", f"labels.uncertain={uncertain}"))
    assert result.code == 0, result.err
    folder = genmed.run_folder()
    with open(folder / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert {row["id"].split("/")[0] for row in rows} == {"valid"}
    studies: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        studies[row["id"].rpartition("/")[0]].append(row)
    assert len(studies) < len(rows)
    measured, unknown = 0, 0
    for label in (name.removeprefix("score_") for name in rows[0] if name.startswith("score_")):
        scores, truth = [], []
        for views in studies.values():
            known = {view[f"truth_{label}"] for view in views} - {""}
            unknown += not known
            if known:
                truth.append(max(map(int, known)))
                scores.append(max(float(view[f"score_{label}"]) for view in views))
        found = result.json["metrics"][f"test_auroc_{label}"]
        expected = area_under_curve(scores, truth)
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12)), label
        measured += expected is not None
    assert measured > 10
    assert (unknown > 0) == (uncertain == "ignore")


def test_studies_of_classes_that_exclude_each_other_are_not_pooled(genmed: Genmed, tmp_path: Path) -> None:
    root = PRESETS["manifest of classes"][0](tmp_path / "data")
    table = root / "manifest.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},study", *(f"{row},s1" for row in rows)]))
    result = genmed(*train("manifest of classes", root, "--set", "data.split=patient"))
    assert result.code == 0, result.err
    with open(genmed.run_folder() / "predictions.csv", newline="") as file:
        found = [row for row in csv.DictReader(file) if row["split"] == "test"]
    for label in (name.removeprefix("score_") for name in found[0] if name.startswith("score_")):
        scores = [float(row[f"score_{label}"]) for row in found]
        truth = [int(row[f"truth_{label}"]) for row in found]
        assert result.json["metrics"][f"test_auroc_{label}"] == pytest.approx(area_under_curve(scores, truth))


def test_weights_are_one_an_output_of_the_task_that_was_chosen(genmed: Genmed, tmp_path: Path) -> None:
    root = PRESETS["manifest of classes"][0](tmp_path / "data")
    ordinal = ["--set", "labels.task=ordinal", "--set", "labels.classes=[healthy, benign, malign]"]
    result = genmed(*train("manifest of classes", root, *ordinal, "--set", "loss.positive_weights=[1.0, 1.0, 1.0]"))
    assert result.code == 2
    assert result.json["error"]["message"] == "loss.positive_weights has 3 numbers, the network has 2 outputs"


def test_unknown_labels_have_no_part_in_the_loss() -> None:
    """Whatever the network says of them: the gradient is 0 there, and the mean does not count them."""
    import torch

    from genmed.engine.objective import count_terms, make_targets, sum_loss
    from genmed.records.config.sections import Loss

    random = np.random.Generator(np.random.Philox(3))
    labels = random.integers(-1, 2, (12, 5)).astype(np.int8)
    targets = make_targets("sigmoid", labels)
    for loss in (Loss(), Loss(label_smoothing=0.1)):
        for weights in (None, (1.0, 2.0, 3.0, 4.0, 5.0)):
            logits = torch.tensor(random.normal(size=(12, 5)).astype(np.float32), requires_grad=True)
            total = sum_loss("sigmoid", logits, torch.from_numpy(targets), loss, weights)
            total.backward()
            assert logits.grad is not None
            assert np.array_equal(logits.grad.numpy() == 0, labels == -1)
    assert count_terms("sigmoid", targets) == (labels != -1).sum()


def test_unknown_labels_have_no_part_in_the_metrics() -> None:
    from genmed.parts.metrics.measuring import measure

    random = np.random.Generator(np.random.Philox(4))
    truth = random.integers(-1, 2, (40, 3)).astype(np.int8)
    scores = random.random((40, 3)).astype(np.float32)
    others = np.where(truth == -1, random.random((40, 3)), scores).astype(np.float32)
    classes = ("a", "b", "c")
    one, two = (measure("test", found, truth, classes, "multi-label") for found in (scores, others))
    # What is taken over whole images asks for images of which everything is known.
    assert {name: value for name, value in one.items() if value is not None} == two
    known = truth[:, 0] != -1
    expected = area_under_curve(scores[known, 0].tolist(), truth[known, 0].tolist())
    assert one["test_auroc_a"] == pytest.approx(expected)


def test_broken_images_are_left_out_where_one_says_so_and_the_data_are_others(genmed: Genmed, tmp_path: Path) -> None:
    root = make_chexpert(tmp_path / "data")
    whole = genmed(*train("chexpert", root))
    assert whole.code == 0, whole.err
    names = ["train/patient00003/study1/view1_frontal.jpg", "valid/patient00030/study1/view1_frontal.jpg"]
    (root / names[0]).write_bytes(b"")
    (root / names[1]).write_text("<html>429 Too Many Requests</html>")
    runs = sorted((genmed.root / "runs").iterdir())
    stopped = genmed(*[part for part in train("chexpert", root) if part != "--json"])
    assert (stopped.code, stopped.out, len(stopped.err.splitlines())) == (2, "", 1), stopped.err
    assert all(name in stopped.err for name in names)
    assert "2 images cannot be read" in stopped.err
    assert sorted((genmed.root / "runs").iterdir()) == runs
    skipped = genmed(*train("chexpert", root, "--set", "data.on_bad_image=skip"))
    assert skipped.code == 0, skipped.err
    for name in names:
        (line,) = [line for line in skipped.err.splitlines() if name in line]
        assert line.count(name) == 1
        assert line.startswith(f"Left out: {root / name} is ")
    documents: list[Any] = [
        json.loads((genmed.root / result.json["path"] / "data.json").read_text()) for result in (whole, skipped)
    ]
    assert documents[0]["fingerprint"] != documents[1]["fingerprint"]
    assert set(documents[1]["left_out"]) == set(names)
    before, after = (sum(side["images"] for side in document["split"]["sides"].values()) for document in documents)
    assert before - after == 2
