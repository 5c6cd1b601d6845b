"""Each line of the contract's table of verdicts; what metrics are judged by where environment or code are others."""

import itertools
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder
from genmed.workflows.identity import Mismatch
from genmed.workflows.verification.report import Bounds, MetricComparison, Report
from genmed.workflows.verification.spread import bounds_of_seeds, bounds_of_tolerance
from genmed.workflows.verification.verdict import judge, order_by_likelihood
from tests.harness import Genmed, edit_document

ELSEWHERE = {"GENMED_TEST_FAULT": "other arithmetic"}

INSIDE = [MetricComparison("test_loss", 0.5, 0.51)]
OUTSIDE = [MetricComparison("test_loss", 0.5, 0.61)]
BOUNDS = Bounds("near", {"test_loss": (0.4, 0.6)})

TABLE = [
    # parted, elsewhere, bounds, metrics: verdict
    (False, False, None, (), "identical"),
    (False, True, BOUNDS, OUTSIDE, "identical"),
    (True, False, None, INSIDE, "diverged"),
    (True, False, BOUNDS, INSIDE, "diverged"),
    (True, True, BOUNDS, INSIDE, "consistent"),
    (True, True, BOUNDS, OUTSIDE, "diverged"),
    (True, True, None, INSIDE, "diverged"),
    (True, True, BOUNDS, (), "diverged"),
]


@pytest.mark.parametrize(("parted", "elsewhere", "bounds", "metrics", "verdict"), TABLE)
def test_verdict_is_that_of_the_contract(
    parted: bool, elsewhere: bool, bounds: Bounds | None, metrics: list[MetricComparison], verdict: str
) -> None:
    assert judge(parted=parted, elsewhere=elsewhere, bounds=bounds, metrics=metrics) == verdict


EXITS = [("identical", 0, 0), ("consistent", 1, 0), ("diverged", 1, 1), ("not comparable", 2, 2)]


@pytest.mark.parametrize(("verdict", "plain", "accepting"), EXITS)
def test_exit_code_is_that_of_the_contract(verdict: str, plain: int, accepting: int) -> None:
    report = Report("run", verdict, "completed", 1, 1)  # type: ignore[arg-type]
    assert (report.exit_code(), report.exit_code(accept_consistent=True)) == (plain, accepting)


def test_metric_that_is_undefined_on_one_side_alone_is_outside() -> None:
    bounds = bounds_of_tolerance({"a": 0.5, "b": None, "c": 0.5, "d": None}, 0.1)
    metrics = [
        MetricComparison("a", 0.5, None),
        MetricComparison("b", None, 0.5),
        MetricComparison("c", 0.5, 0.6),
        MetricComparison("d", None, None),
    ]
    assert bounds.find_outside(metrics) == ["a", "b"]


def test_causes_that_can_change_bits_come_first_and_code_before_versions_before_hardware() -> None:
    names = ["host.hostname", "cpu.model", "packages.numpy", "packages.torch", "threads.intra_op", "code"]
    shuffled = [Mismatch("environment", name, 1, 2, name != "host.hostname") for name in names]
    for order in itertools.permutations(shuffled):
        assert [entry.what for entry in order_by_likelihood(order)] == names[::-1]


def test_differing_metrics_are_consistent_within_the_tolerance_alone(finished: Genmed) -> None:
    path = finished.run_folder() / "environment.json"
    edit_document(path, lambda document: document["packages"].update(torch="2.0.1"))
    for tolerance, accepted, verdict, code in (
        (1, (), "consistent", 1),
        (1, ("--accept-consistent",), "consistent", 0),
        (0, ("--accept-consistent",), "diverged", 1),
    ):
        result = finished("verify", "latest", "--json", "--tolerance", tolerance, *accepted, **ELSEWHERE)
        assert (result.code, result.json["verdict"]) == (code, verdict), result.err
        assert result.json["steps_compared"] == 28
        assert result.json["judged_by"] == f"each metric within {tolerance} of the recorded one"
        differing = [m["name"] for m in result.json["metrics"] if m["difference"]]
        assert differing
        assert result.json["problems"] == (
            []
            if verdict == "consistent"
            else [f"{name} is outside of: each metric within 0 of the recorded one" for name in differing]
        )
    without = finished("verify", "latest", "--json", **ELSEWHERE)
    assert (without.code, without.json["verdict"], without.json["judged_by"]) == (1, "diverged", None)


def test_tolerance_excuses_nothing_where_environment_and_code_are_as_recorded(finished: Genmed) -> None:
    result = finished("verify", "latest", "--json", "--tolerance", 1, "--accept-consistent", **ELSEWHERE)
    assert (result.code, result.json["verdict"]) == (1, "diverged")


def test_five_seeds_of_the_config_give_the_prediction_interval_of_a_sixth(finished: Genmed) -> None:
    folder = RunFolder(finished.run_folder())
    own = folder.read()

    def add_run(seed: int, loss: float, **more: object) -> None:
        """A copy that says that it is another seed's, with another loss."""
        copied = folder.path.with_name(f"other-{seed}-{len(list(folder.path.parent.iterdir()))}")
        copied.mkdir()
        shutil.copyfile(folder.document_path, copied / "run.json")

        def change(document: dict[str, Any]) -> None:
            document["metrics"]["test_loss"] = loss
            document["config"]["seed"] = document["seed"] = seed
            document.update(more)

        edit_document(copied / "run.json", change)

    for seed in (1, 2, 3):
        add_run(seed, 0.1 * seed)
    add_run(3, 0.3)  # the same seed counts once
    add_run(5, 9.0, config={**own.config, "optimizer.lr": 0.5})
    add_run(6, 9.0, code_digest="sha256:0")
    add_run(7, 9.0, data_fingerprint="sha256:0")
    add_run(8, 9.0, status="interrupted")
    assert bounds_of_seeds(finished.root, own) is None
    add_run(4, 0.4)
    bounds = bounds_of_seeds(finished.root, own)
    assert bounds is not None
    assert bounds.says == "95% prediction intervals of 5 seeds of this config"
    losses = [own.metrics["test_loss"], 0.1, 0.2, 0.1 * 3, 0.4]
    reach = stats.t.ppf(0.975, 4) * statistics.stdev(losses) * (1 + 1 / 5) ** 0.5
    expected = statistics.fmean(losses) - reach, statistics.fmean(losses) + reach
    assert bounds.by_metric["test_loss"] == pytest.approx(expected, rel=1e-12)
    assert "test_auroc_Edema" not in bounds.by_metric  # undefined

    edit_document(folder.environment_path, lambda document: document["packages"].update(torch="2.0.1"))
    result = finished("verify", own.name, "--json", "--accept-consistent", **ELSEWHERE)
    outside = bounds.find_outside(
        [MetricComparison(m["name"], m["recorded"], m["found"]) for m in result.json["metrics"]]
    )
    assert "test_loss" not in outside
    assert (result.code, result.json["verdict"]) == ((0, "consistent") if not outside else (1, "diverged"))
    assert len(result.json["problems"]) == len(outside)
    assert result.json["judged_by"] == bounds.says


def test_broken_neighbour_is_no_matter_of_the_run(finished: Genmed, tmp_path: Path) -> None:
    folder = RunFolder(finished.run_folder())
    (finished.root / "runs" / "broken").mkdir()
    (finished.root / "runs" / "broken" / "run.json").write_text("{")
    with pytest.raises(RecordError):
        RunFolder(finished.root / "runs" / "broken").read()
    assert bounds_of_seeds(finished.root, folder.read()) is None
