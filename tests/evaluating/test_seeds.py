"""The spread over seeds that stands beside the intervals: over which runs it is, and that its numbers are theirs."""

import json
import shlex
import statistics
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from genmed.parts.report.seeds import NO_OTHER_SEED
from genmed.records.run_folder import RunDocument, RunFolder
from genmed.workflows.evaluation.over_seeds import summarise
from genmed.workflows.siblings import list_siblings
from tests.datasets.making import make_chexpert
from tests.harness import Genmed, edit_document

Arguments = Callable[..., list[object]]
SEEDS = (2, 3, 42)
OTHER = "other"


@pytest.fixture(scope="module")
def seeds(
    server: ForkServerContext, image_cache: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory
) -> Genmed:
    """genmed with three finished runs of one config, and one of another learning rate; only read."""
    prepared = Genmed(server, tmp_path_factory.mktemp("seeds"), image_cache)
    for more in (*(("--seed", seed) for seed in SEEDS), ("--lr", 0.02, "--name", OTHER)):
        result = prepared(*tiny("--epochs", 2, *more))
        assert result.code == 0, result.err
    return prepared


@pytest.fixture
def copied(seeds: Genmed, tmp_path: Path) -> Genmed:
    """A copy of them that a test may change."""
    return seeds.copied_to(tmp_path)


def find_run(genmed: Genmed, seed: int | str) -> Path:
    """By its seed; the one of another learning rate by its name."""
    begin = seed if seed == OTHER else f"nih-tiny-build-s{seed}"
    [found] = (genmed.root / "runs").glob(f"{begin}-*")
    return found


def read_own(genmed: Genmed, seed: int) -> dict[str, Any]:
    return json.loads((find_run(genmed, seed) / "evaluations" / "test.json").read_text())


def ask_seeds(genmed: Genmed, seed: int | str, *more: object) -> Any:
    result = genmed("evaluate", find_run(genmed, seed).name, "--json", *more)
    assert result.code == 0, result.err
    return result.json["seeds"]


def test_spread_is_that_of_the_metrics_of_the_runs_that_differ_in_the_seed_alone(seeds: Genmed) -> None:
    found = ask_seeds(seeds, 2)
    assert (found["seeds"], found["runs"]) == ([2, 3, 42], [find_run(seeds, seed).name for seed in SEEDS])
    own = [read_own(seeds, seed)["metrics"] for seed in SEEDS]
    recorded = [json.loads((find_run(seeds, seed) / "run.json").read_text())["metrics"] for seed in SEEDS]
    assert found["metrics"].keys() == own[0].keys()
    for name, spread in found["metrics"].items():
        values = [metrics[name]["value"] for metrics in own]
        if None in values:
            assert spread == {"mean": None, "sd": None, "lowest": None, "highest": None}, name
            continue
        assert spread["mean"] == pytest.approx(statistics.mean(values), rel=1e-12), name
        assert spread["sd"] == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-15), name
        assert (spread["lowest"], spread["highest"]) == (min(values), max(values)), name
    trained = statistics.stdev(metrics["test_auroc_macro"] for metrics in recorded)
    assert found["metrics"]["test_auroc_macro"]["sd"] == pytest.approx(trained, rel=1e-9)
    assert trained > 0
    assert ask_seeds(seeds, OTHER) is None


def test_spread_is_in_no_kept_evaluation(seeds: Genmed) -> None:
    assert ask_seeds(seeds, 42) is not None
    assert "seeds" not in read_own(seeds, 42)


def test_table_has_the_spread_below_the_intervals(seeds: Genmed) -> None:
    run = find_run(seeds, 42).name
    spread = ask_seeds(seeds, 42)["metrics"]["test_auroc_macro"]
    lines = seeds("evaluate", run).out.splitlines()
    header = lines.index("over 3 seeds\tAUROC mean\tAUROC sd\tAUROC range\tAP mean\tAP sd\tAP range")
    mean = next(line for line in lines[header:] if line.startswith("mean of classes\t")).split("\t")
    shown = [f"{spread['mean']:.3f}", f"{spread['sd']:.3f}", f"{spread['lowest']:.3f} to {spread['highest']:.3f}"]
    assert mean[1:4] == shown
    assert lines[-1] == (
        "seeds\t3 seeds (2, 3, 42), which are few: take 5 or more; the intervals are of these patients alone"
    )


def test_run_without_another_seed_says_by_which_command_there_is_one(seeds: Genmed) -> None:
    run = find_run(seeds, OTHER).name
    out = seeds("evaluate", run).out
    assert "over " not in out.splitlines()[0]
    command = f"genmed study --config runs/{run}/config.yaml --seeds 5"
    assert out.endswith(f"and {NO_OTHER_SEED}: `{command}`\n")
    assert f"Spread over seeds: {NO_OTHER_SEED}: `{command}`." in seeds("card", run).out
    assert seeds("report", run).code == 0
    page = (seeds.root / "runs" / run / "report.html").read_text()
    assert f"N{NO_OTHER_SEED[1:]}: `{command}`." in page
    asked = seeds(*shlex.split(command)[1:], "--dry-run", cwd=seeds.root)
    assert asked.code == 0, asked.err
    assert "seeds\t42, 43, 44, 45, 46\n" in asked.out


def test_hidden_run_does_not_count(copied: Genmed) -> None:
    assert copied("rm", find_run(copied, 2).name).code == 0
    assert ask_seeds(copied, 42)["seeds"] == [3, 42]
    assert ask_seeds(copied, 2)["seeds"] == [2, 3, 42], "its own spread has the run itself"
    assert copied("rm", "--restore", find_run(copied, 2).name).code == 0
    assert ask_seeds(copied, 42)["seeds"] == [2, 3, 42]


def test_run_that_went_on_in_spite_of_a_difference_does_not_count(copied: Genmed) -> None:
    accepted = {"what": "code", "step": 3, "when": "2026-01-01T00:00:00+00:00", "changes": [], "count": 1}
    edit_document(find_run(copied, 2) / "run.json", lambda document: document.update(accepted=[accepted]))
    RunFolder(find_run(copied, 2)).read()
    assert ask_seeds(copied, 42)["seeds"] == [3, 42]


def test_run_that_was_measured_on_other_images_or_in_another_state_does_not_count(copied: Genmed) -> None:
    for seed, change in ((2, {"data_fingerprint": "sha256:0"}), (3, {"fingerprint": "sha256:0"})):
        path = find_run(copied, seed) / "evaluations" / "test.json"
        edit_document(path, lambda document, change=change: document.update(change))  # type: ignore[misc]
    assert ask_seeds(copied, 42) is None


def test_on_other_data_the_spread_is_over_the_runs_that_were_measured_on_them(copied: Genmed, tmp_path: Path) -> None:
    asked = ("--dataset", "chexpert", "--data-root", make_chexpert(tmp_path / "chexpert"))
    assert ask_seeds(copied, 42, *asked) is None
    assert (
        f"{NO_OTHER_SEED}, and measured on these images: `genmed study"
        in copied("evaluate", find_run(copied, 42).name, *asked).out
    )
    found = ask_seeds(copied, 3, *asked)
    assert found["seeds"] == [3, 42]
    name = next(path.name for path in (find_run(copied, 42) / "evaluations").glob("chexpert-*.json"))
    kept = [json.loads((find_run(copied, seed) / "evaluations" / name).read_text()) for seed in (3, 42)]
    values = [document["metrics"]["test_auroc_macro"]["value"] for document in kept]
    assert found["metrics"]["test_auroc_macro"]["sd"] == pytest.approx(statistics.stdev(values))
    assert ask_seeds(copied, 42, *asked, "--split", "all") is None
    other = find_run(copied, 3) / "evaluations" / name
    edit_document(other, lambda document: document.update(matched={**document["matched"], "Effusion": "Fracture"}))
    assert ask_seeds(copied, 42, *asked) is None, "one class of the run was held against another of the data"
    edit_document(other, lambda document: document.update(matched=kept[0]["matched"]))
    card = copied("card", find_run(copied, 42).name).out
    assert card.count("Spread over 3 seeds (2, 3, 42), which are few") == 1
    assert card.count("Spread over 2 seeds (3, 42), which are few") == 1


def test_report_and_card_show_the_spread_beside_the_interval(copied: Genmed) -> None:
    spread = ask_seeds(copied, 42)["metrics"]
    macro, effusion = spread["test_auroc_macro"], spread["test_auroc_Effusion"]
    name = find_run(copied, 42).name
    assert copied("report", name).code == 0
    page = (find_run(copied, 42) / "report.html").read_text()
    ends = f"from {macro['lowest']:.3f} to {macro['highest']:.3f}"
    assert f"over 3 seeds {macro['mean']:.3f} ± {macro['sd']:.3f}, {ends}; beside the interval, no part of it" in page
    assert f'<small class="seeds">{effusion["mean"]:.3f}±{effusion["sd"]:.3f}</small>' in page
    assert "mean ± standard deviation over 3 seeds (2, 3, 42), which are few: take 5 or more." in page
    row = f"| Effusion | {effusion['mean']:.3f} ± {effusion['sd']:.3f} | {effusion['lowest']:.3f} to"
    assert row in copied("card", name).out


def test_comparison_tells_each_runs_seeds(copied: Genmed, tmp_path: Path) -> None:
    names = [find_run(copied, seed).name for seed in (42, OTHER)]
    assert copied("report", *names, "--out", tmp_path / "both.html").code == 0
    macro = ask_seeds(copied, 42)["metrics"]["test_auroc_macro"]
    page = (tmp_path / "both.html").read_text()
    assert page.count(": 3 seeds (2, 3, 42), which are few") == 1
    assert page.count(f'<small class="seeds">{macro["mean"]:.3f}±{macro["sd"]:.3f}</small>') == 1
    assert NO_OTHER_SEED not in page
    for seed in (2, 3):
        assert copied("rm", find_run(copied, seed).name).code == 0
    assert copied("report", *names, "--out", tmp_path / "alone.html").code == 0
    assert f"Of each run {NO_OTHER_SEED}: the runs may differ" in (tmp_path / "alone.html").read_text()


def list_seeds(root: Path, document: RunDocument) -> list[int]:
    return [sibling.document.seed for sibling in list_siblings(root, document)]


def test_runs_are_found_with_the_registry_and_without(copied: Genmed) -> None:
    document = RunFolder(find_run(copied, 2)).read()
    assert list_seeds(copied.root, document) == [2, 3, 42]
    (copied.root / "registry.db").write_bytes(b"no database\n" * 999)
    assert list_seeds(copied.root, document) == [2, 3, 42]
    (copied.root / "registry.db").unlink()
    assert list_seeds(copied.root, document) == [2, 3, 42]
    (find_run(copied, 42) / "run.json").write_text("{")
    assert list_seeds(copied.root, document) == [2, 3]


def test_registry_spares_reading_runs_of_other_configs(copied: Genmed) -> None:
    document = RunFolder(find_run(copied, 2)).read()
    other = find_run(copied, OTHER) / "run.json"
    edit_document(other, lambda found: found.update(config=document.config))
    assert list_seeds(copied.root, document) == [2, 3, 42]
    (copied.root / "registry.db").unlink()
    assert list_seeds(copied.root, document) == [2, 3, 42, 42]


def test_metric_that_is_undefined_for_one_seed_has_no_spread() -> None:
    assert set(summarise([0.5, None, 0.7]).values()) == {None}
    assert summarise([0.5, 0.7]) == {"mean": 0.6, "sd": pytest.approx(0.1414213562), "lowest": 0.5, "highest": 0.7}
