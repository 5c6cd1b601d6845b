"""Each line of the contract's table of verdicts; what metrics are judged by where environment or code are others."""

import itertools
import json
import statistics
from pathlib import Path

import pytest
from scipy import stats

from genmed.ground.errors import RecordError
from genmed.records.run_folder import RunFolder
from genmed.workflows.identity import Mismatch
from genmed.workflows.verification.report import Bounds, MetricComparison, Report
from genmed.workflows.verification.spread import bounds_of_seeds, bounds_of_tolerance
from genmed.workflows.verification.verdict import judge, order_by_likelihood
from tests.harness import Genmed, edit_document
from tests.verifying.faults import Arguments

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
    report = Report("run", verdict, 1, 1)  # type: ignore[arg-type]
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


def test_five_seeds_of_the_config_give_the_prediction_interval_of_a_sixth(
    genmed: Genmed, tiny: Arguments, recorded: Genmed
) -> None:
    model = json.loads((recorded.run_folder() / "run.json").read_text())["model"]
    runs = {}
    for seed in (42, 1, 2, 3):
        result = genmed(*tiny("--model", model, "--epochs", 1, "--seed", seed))
        runs[seed] = result.json
    folder = RunFolder(genmed.root / runs[42]["path"])
    assert genmed(*tiny("--model", model, "--epochs", 1, "--seed", 1)).code == 0  # the same seed counts once
    assert genmed(*tiny("--model", model, "--epochs", 1, "--seed", 9, "--lr", 0.002)).code == 0  # another config
    assert bounds_of_seeds(genmed.root, folder.read()) is None
    runs[4] = genmed(*tiny("--model", model, "--epochs", 1, "--seed", 4)).json
    bounds = bounds_of_seeds(genmed.root, folder.read())
    assert bounds is not None
    assert bounds.says == "95% prediction intervals of 5 seeds of this config"
    losses = [run["metrics"]["test_loss"] for run in runs.values()]
    reach = stats.t.ppf(0.975, 4) * statistics.stdev(losses) * (1 + 1 / 5) ** 0.5
    expected = statistics.fmean(losses) - reach, statistics.fmean(losses) + reach
    assert bounds.by_metric["test_loss"] == pytest.approx(expected, rel=1e-12)
    assert "test_auroc_Edema" not in bounds.by_metric  # undefined

    edit_document(folder.environment_path, lambda document: document["packages"].update(torch="2.0.1"))
    result = genmed("verify", runs[42]["id"], "--json", "--accept-consistent", **ELSEWHERE)
    outside = bounds.find_outside(
        [MetricComparison(m["name"], m["recorded"], m["found"]) for m in result.json["metrics"]]
    )
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
