"""MedMNIST's benchmark: its protocol as a config, its two figures, and what was published beside one's own result."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics import accuracy_score, roc_auc_score

from genmed.engine.checkpoint import list_checkpoints
from genmed.parts.data.datasets.medmnist import FLAGS
from genmed.parts.data.records import TaskKind
from genmed.parts.metrics.intervals import estimate
from genmed.parts.metrics.medmnist import PUBLISHED
from genmed.parts.metrics.sample import Sample
from genmed.records.config import flatten, resolve
from genmed.records.config.sources import SHIPPED, layer_of_file
from genmed.workflows.evaluation.benchmark import compare_with_published
from tests.datasets.making import make_medmnist
from tests.harness import TINY_MODEL, Genmed


def evaluate_as_its_authors(truth: Any, scores: Any, task: str) -> tuple[float, float]:
    """AUC and accuracy, after the evaluator of the package medmnist; scores (N, C) with a column for each class."""
    if task == "multi-label":
        areas = [roc_auc_score(truth[:, i], scores[:, i]) for i in range(scores.shape[1])]
        right = [accuracy_score(truth[:, i], scores[:, i] > 0.5) for i in range(scores.shape[1])]
        return sum(areas) / len(areas), sum(right) / len(right)
    if task == "binary":
        return roc_auc_score(truth, scores[:, -1]), accuracy_score(truth, scores[:, -1] > 0.5)
    areas = [roc_auc_score((truth == i).astype(float), scores[:, i]) for i in range(scores.shape[1])]
    return sum(areas) / len(areas), accuracy_score(truth, np.argmax(scores, axis=-1))


@pytest.mark.parametrize("task", ["multi-label", "binary", "multi-class", "ordinal"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(12, 60), st.booleans())
def test_figures_are_those_of_its_authors_evaluator(task: TaskKind, seed: int, count: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    classes = 2 if task == "binary" else 4
    scores = random.dirichlet(np.ones(classes), count).astype(np.float32)
    if coarse:
        scores = np.round(scores * 4) / 4  # ties, and scores of 0.5
    if task == "multi-label":
        truth = random.integers(0, 2, (count, classes))
        truth[:2] = [[0] * classes, [1] * classes]
        theirs, own, judged = truth, truth, scores
    else:
        theirs = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
        own = np.eye(classes, dtype=np.int64)[theirs]
        own, judged = (own[:, 1:], scores[:, 1:]) if task == "binary" else (own, scores)
    names = tuple(f"c{column}" for column in range(own.shape[1]))
    sample = Sample(judged, own.astype(np.int8), np.arange(count), names, task, {}, "medmnist:breastmnist")
    found = estimate(sample, 0, 20)
    auc, accuracy = evaluate_as_its_authors(theirs, scores, task)
    assert found["auroc_macro"].value == pytest.approx(auc, abs=1e-12)
    assert found["accuracy"].value == pytest.approx(accuracy, abs=1e-12)
    elsewhere = estimate(Sample(judged, own.astype(np.int8), np.arange(count), names, task, {}, "nih"), 0, 20)
    assert ("accuracy" in elsewhere) == (task in ("multi-class", "ordinal"))


def test_published_figures_are_of_all_twelve_sets() -> None:
    assert set(PUBLISHED) == {f"medmnist:{flag}" for flag in FLAGS}
    table = """
        path 0.983 0.907, chest 0.768 0.947, derma 0.917 0.735, oct 0.943 0.743, pneumonia 0.944 0.854,
        retina 0.717 0.524, breast 0.901 0.863, blood 0.998 0.958, tissue 0.930 0.676, organa 0.997 0.935,
        organc 0.992 0.900, organs 0.972 0.782
    """
    for name, auc, accuracy in (row.split() for row in table.split(",")):
        assert PUBLISHED[f"medmnist:{name}mnist"] == (float(auc), float(accuracy))


def test_protocol_is_the_published_one() -> None:
    config = flatten(resolve([layer_of_file("medmnist")]).config)
    wanted = {
        "data.image_size": 28,
        "normalisation.method": "half",
        "augmentation.preset": "none",
        "model.name": "resnet18_small",
        "model.weights": "random",
        "optimizer.name": "adam",
        "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0,
        "schedule.name": "multistep",
        "schedule.milestones": [0.5, 0.75],
        "schedule.gamma": 0.1,
        "schedule.warmup": 0,
        "loss.name": "softmax",
        "loss.label_smoothing": 0,
        "training.epochs": 100,
        "training.batch_size": 128,
        "training.select": "best",
        "training.also_last": True,
        "training.monitor": "auroc_macro",
        "training.patience": 0,
    }
    assert {key: config[key] for key in wanted} == wanted
    said = {f"{name}.{key}" for name, section in read_shipped("medmnist").items() for key in section}
    assert set(wanted) - said == {"loss.label_smoothing", "training.patience"}


def read_shipped(name: str) -> dict[str, dict[str, Any]]:
    document: dict[str, dict[str, Any]] = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    return document


OTHERWISE = {
    "loss.label_smoothing": 0.2,
    "loss.positive_weights": "balanced",
    "training.max_steps": 20,
    "training.patience": 2,
    "training.validate_every": 50,
    "optimizer.clip_norm": 0.1,
    "optimizer.beta1": 0.5,
    "compute.shards": 8,
    "compute.precision": "fp16",
    "data.split": "patient",
    "labels.task": "multi-class",
}


def compare(classes: tuple[str, ...] = ("normal, benign",), **settings: Any) -> Any:
    """A run by the protocol, but for these settings, on the official images; beside what was published."""
    config = resolve([layer_of_file("medmnist")]).config.replace(**{"data.dataset": "medmnist:breastmnist", **settings})
    official = FLAGS["breastmnist"].counts
    counts = {side: {"images": count} for side, count in zip(("train", "val", "test"), official, strict=True)}
    evaluation = {
        "dataset": "medmnist:breastmnist",
        "split": "test",
        "classes": list(classes),
        "images": official[2],
        "metrics": {"test_auroc_macro": {}, "test_accuracy": {}},
    }
    document = cast(Any, SimpleNamespace(best_epoch=1, epochs_done=100))
    data = {"dataset": evaluation["dataset"], "split": {"sides": counts}}
    return compare_with_published(document, config, data, evaluation)


def test_run_by_the_protocol_departs_in_nothing_and_any_other_key_that_affects_bits_is_named() -> None:
    assert compare()["departures"] == []
    free = {"seed": 7, "compute.threads": 3, "compute.num_workers": 2, "data.split": "official"}
    assert compare(**free)["departures"] == []
    for key, value in OTHERWISE.items():
        assert [entry["key"] for entry in compare(**{key: value})["departures"]] == [key]


def test_other_classes_than_the_published_ones_are_beside_nothing() -> None:
    assert compare(("malignant",)) is None


def count_outputs(run: Path) -> int:
    """Of the network."""
    weights = load_file(list_checkpoints(run / "checkpoints")[-1] / "model.safetensors")
    return len(weights[max(weights)])


def read_truth_and_scores(run: Path, table: str, classes: list[str]) -> tuple[Any, Any]:
    with open(run / table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    return (
        np.array([[int(row[f"truth_{name}"]) for name in classes] for row in rows]),
        np.array([[float(row[f"score_{name}"]) for name in classes] for row in rows], dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("flag", "outputs", "epochs"),
    [("breastmnist", 2, 100), ("chestmnist", 14, 2), ("retinamnist", 5, 2), ("bloodmnist", 8, 2)],
)
def test_protocol_runs_to_its_end_with_best_and_last_beside_the_published(
    genmed: Genmed, tmp_path: Path, flag: str, outputs: int, epochs: int
) -> None:
    data = ["--dataset", f"medmnist:{flag}", "--data-root", make_medmnist(tmp_path / "data", flag, counts=(48, 24, 32))]
    short = [] if epochs == 100 else ["--epochs", epochs]
    ran = genmed("train", "--config", "medmnist", *data, "--model", TINY_MODEL, *short, "--json")
    assert ran.code == 0, ran.err
    run = genmed.run_folder()
    assert count_outputs(run) == outputs
    found = genmed("evaluate", "latest", "--json").json
    benchmark = found["benchmark"]
    assert ran.json["benchmark"] == benchmark
    assert tuple(benchmark["published"].values()) == PUBLISHED[f"medmnist:{flag}"]
    best, last = benchmark["rows"]
    document = json.loads((run / "run.json").read_text())
    assert (best["state"], best["epoch"]) == ("best", document["best_epoch"])
    assert (last["state"], last["epoch"]) == ("last", epochs)
    kind = FLAGS[flag].task
    for row, table in ((best, "predictions.csv"), (last, "predictions-last.csv")):
        truth, scores = read_truth_and_scores(run, table, found["classes"])
        numbers = truth if kind == "multi-label" else truth[:, 0] if kind == "binary" else truth.argmax(1)
        auc, accuracy = evaluate_as_its_authors(numbers, scores, kind)
        assert row["auc"]["value"] == pytest.approx(auc, abs=1e-12)
        assert row["acc"]["value"] == pytest.approx(accuracy, abs=1e-12)
        assert row["acc"]["low"] <= accuracy <= row["acc"]["high"]
    departures = {entry["key"]: entry["run"] for entry in benchmark["departures"]}
    assert departures.pop("model.name") == TINY_MODEL
    counts = {"images of train": 48, "images of val": 24, "images of test": 32}
    assert departures == counts | ({} if epochs == 100 else {"training.epochs": epochs})
    text = genmed("evaluate", "latest").out
    assert f"published, ResNet-18 (28 px)\t{PUBLISHED[f'medmnist:{flag}'].auc:.3f}" in text
    assert f"this run, last epoch ({epochs})" in text
    assert f"| published, ResNet-18 (28 px) | {PUBLISHED[f'medmnist:{flag}'].auc:.3f} |" in genmed("card", "latest").out
    rates = [float.fromhex(json.loads(line)["lr"]) for line in (run / "trace.jsonl").read_text().splitlines()[1:]]
    assert len(rates) == epochs
    half, quarter = epochs // 2, epochs * 3 // 4
    assert rates[:half] == [1e-3] * half
    assert rates[half:quarter] == pytest.approx([1e-4] * (quarter - half))
    assert rates[quarter:] == pytest.approx([1e-5] * (epochs - quarter))


def test_last_epoch_s_figures_are_those_of_the_run_that_is_judged_by_it(genmed: Genmed, tmp_path: Path) -> None:
    data = ["--dataset", "medmnist:breastmnist", "--data-root", make_medmnist(tmp_path / "data", "breastmnist")]
    train = ["train", "--config", "medmnist", *data, "--model", TINY_MODEL, "--batch-size", 8, "--json"]
    both = genmed(*train, "--epochs", 3, "--set", "training.validate_every=2", "--name", "both")
    assert both.code == 0, both.err
    alone = genmed(*train, "--epochs", 3, "--set", "training.validate_every=2", "--set", "training.select=last")
    assert alone.code == 0, alone.err
    assert both.json["trace_digest"] == alone.json["trace_digest"]
    judged_by_last = {name: value for name, value in both.json["metrics"].items() if name.startswith("last_")}
    assert {f"last_{name}": value for name, value in alone.json["metrics"].items()} == judged_by_last
    assert [row["state"] for row in alone.json["benchmark"]["rows"]] == ["last"]
    verified = genmed("verify", both.json["id"], "--json")
    assert verified.json["verdict"] == "identical"
    assert "last_test_auroc_macro" in {entry["name"] for entry in verified.json["metrics"]}
    run = genmed.run_folder(both.json["name"])
    table = run / "predictions-last.csv"
    table.write_text(table.read_text().replace(",0.", ",1.", 1))
    damaged = genmed("evaluate", both.json["id"])
    assert (damaged.code, "predictions-last.csv is damaged or was edited" in damaged.err) == (2, True)


def test_config_that_comes_with_genmed_gives_way_to_a_file_of_that_name(genmed: Genmed, tmp_path: Path) -> None:
    show = ["train", "--dry-run", "--config"]
    assert "epochs: 100" in genmed(*show, "medmnist.yaml", "--data-root", tmp_path).out
    (tmp_path / "medmnist").write_text("training: {epochs: 7}\n")
    assert "epochs: 7" in genmed(*show, "medmnist", cwd=tmp_path).out
    refused = genmed(*show, "medmnits")
    assert refused.code == 2
    assert refused.err == "error: no config file medmnits (check --config; with genmed come: medmnist)\n"
