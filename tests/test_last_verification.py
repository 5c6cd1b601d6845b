"""The last verification of a run, and the early stop that ended one, are shown wherever runs are shown."""

import csv
import io
import re
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from genmed.records.registry import RunRecord
from genmed.records.run_folder import RunFolder, now
from genmed.workflows.early_stop import explain_early_stop
from genmed.workflows.index import verification_row
from genmed.workflows.listing import list_runs
from tests.harness import Genmed, edit_document
from tests.registries.making import make_registry, make_run, watch_queries
from tests.test_step import NETWORK

Arguments = Callable[..., list[object]]
STEPS = 28


def read_row(genmed: Genmed) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO(genmed("export", "--csv").out))
    return row


def show(genmed: Genmed) -> dict[str, str]:
    lines = [line.split("\t") for line in genmed("show", "latest").out.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_run_that_was_never_verified_says_so(trained: Genmed) -> None:
    assert trained("show", "latest", "--json").json["verification"] is None
    assert trained("list", "--json").json[0]["verification"] is None
    assert show(trained)["verified"] == "not yet"
    assert trained("list").out.splitlines()[1].split("\t")[5] == "-"
    assert [read_row(trained)[name] for name in ("verified", "verified_at", "verified_steps")] == ["", "", ""]


def test_last_verdict_is_shown_everywhere(trained: Genmed, tmp_path: Path) -> None:
    genmed = trained.copied_to(tmp_path)
    genmed("list", "--rebuild")
    folder = genmed.run_folder()
    assert genmed("report", "latest").code == 0
    page = (folder / "report.html").read_text()
    assert "not verified" in page
    verdict = genmed("verify", "latest", "--json")
    assert verdict.json["verdict"] == "identical"
    shown = genmed("show", "latest", "--json").json["verification"]
    expected = {
        "verdict": "identical",
        "steps_compared": STEPS,
        "steps_total": STEPS,
        "segments": None,
        "outdated": False,
    }
    assert {key: value for key, value in shown.items() if key != "created"} == expected
    assert genmed("list", "--json").json[0]["verification"] == shown
    day = f"{datetime.fromisoformat(shown['created']).astimezone():%Y-%m-%d}"
    assert show(genmed)["verified"] == f"identical on {day}, {STEPS} of {STEPS} steps"
    assert genmed("list").out.splitlines()[1].split("\t")[5] == "identical"
    row = read_row(genmed)
    assert (row["verified"], row["verified_at"]) == ("identical", shown["created"])
    assert (row["verified_steps"], row["verified_steps_total"]) == (str(STEPS), str(STEPS))
    refreshed = (folder / "report.html").read_text()
    assert '<span class="badge good">identical</span>' in refreshed
    assert "not verified" not in refreshed
    changed = [pair for pair in zip(page.splitlines(), refreshed.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    edit_document(folder / "environment.json", lambda document: document["packages"].update(numpy="0.1"))
    with open(folder / "trace.jsonl", "a") as file:
        file.write("x")
    assert genmed("verify", "latest", "--json").json["verdict"] == "not comparable"
    assert genmed("list", "--json").json[0]["verification"]["verdict"] == "not comparable"
    assert '<span class="badge bad">not comparable</span>' in (folder / "report.html").read_text()


def test_verdict_from_before_a_resume_is_outdated(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    killed = genmed(*tiny("--model", f"{tmp_path / 'network.py'}:build"), GENMED_TEST_KILL_AT="12")
    assert killed.code == -signal.SIGKILL
    genmed("list")  # the row says that its process is dead
    assert genmed("verify", "latest", "--json").json["verdict"] == "identical"
    assert genmed("list").out.splitlines()[1].split("\t")[5] == "identical"
    assert genmed("resume", "latest", "--json").json["verification"]["outdated"] is True
    assert genmed("list").out.splitlines()[1].split("\t")[5] == "outdated"
    assert re.fullmatch(r"not since the run was resumed \(before: identical on .*\)", show(genmed)["verified"])
    assert read_row(genmed)["verified"] == "outdated"
    assert genmed("report", "latest").code == 0
    assert "not verified" in (genmed.run_folder() / "report.html").read_text()
    assert genmed("verify", "latest", "--json").code == 0
    assert genmed("list").out.splitlines()[1].split("\t")[5] == "identical"


def test_audit_of_segments_is_shown_as_such(trained: Genmed, tiny: Arguments, genmed: Genmed) -> None:
    assert genmed(*tiny("--set", "checkpoints.keep=9")).code == 0
    audit = genmed("verify", "latest", "--segment", "2", "--json")
    assert audit.code == 0, audit.err
    verification = genmed("show", "latest", "--json").json["verification"]
    assert verification["segments"] == {"checked": 1, "total": 4}
    assert verification["verdict"] == "1 of 4 segments identical"
    assert re.fullmatch(r"1 of 4 segments identical on \S+, 7 of 28 steps", show(genmed)["verified"])
    assert genmed("list").out.splitlines()[1].split("\t")[5] == "1/4 segments"


def test_report_that_cannot_be_refreshed_changes_no_verdict(trained: Genmed, tmp_path: Path) -> None:
    genmed = trained.copied_to(tmp_path)
    path = genmed.run_folder() / "report.html"
    path.write_bytes(b"\xff not a page")
    verdict = genmed("verify", "latest", "--json")
    assert (verdict.code, verdict.json["verdict"]) == (0, "identical")
    assert "report.html shows no new verdict" in verdict.err
    assert path.read_bytes() == b"\xff not a page"


def test_listing_takes_one_query_for_all_verifications(database: str, tmp_path: Path) -> None:
    runs = [make_run(f"{n:08x}", status="completed") for n in range(50)]
    reports = [{"created": f"2026-12-0{day}T00:00:00+00:00", "verdict": f"day {day}"} for day in (2, 3, 1)]
    lines = [{**report, "steps_compared": 1, "steps_total": 2, "segments": None} for report in reports]
    registry = make_registry(tmp_path)
    registry.rebuild(RunRecord(run, verifications=[verification_row(run.id, line) for line in lines]) for run in runs)
    with watch_queries() as sent:
        shown = list_runs(tmp_path).runs
    assert [run["verification"]["verdict"] for run in shown] == ["day 3"] * 50
    assert sum("FROM verifications" in query for query in sent) == 1


def test_verification_recorded_without_segments_is_shown(trained: Genmed, tmp_path: Path) -> None:
    """As the first versions of genmed recorded it."""
    genmed = trained.copied_to(tmp_path)
    line = {"verdict": "identical", "created": now().isoformat(), "steps_compared": STEPS, "steps_total": STEPS}
    RunFolder(genmed.run_folder()).add_verification({**line, "first_divergence": None, "problems": []})
    assert genmed("list", "--rebuild").out.splitlines()[1].split("\t")[5] == "identical"
    assert show(genmed)["verified"].startswith("identical on ")


# Early stopping


@pytest.fixture
def stopped(genmed: Genmed, tiny: Arguments) -> Genmed:
    """A run that its patience ended: a learning rate of 0 makes no epoch better than the first."""
    result = genmed(*tiny("--epochs", 9, "--patience", 2, "--lr", "1e-30"))
    assert result.code == 0, result.err
    told = "stopped early after epoch 3: val AUROC not above "
    assert [line.startswith(told) for line in result.err.splitlines() if "stopped" in line] == [True]
    return genmed


def test_early_stop_is_told_with_its_reason(stopped: Genmed) -> None:
    folder = stopped.run_folder()
    best = RunFolder(folder).read_metrics()[0]["val_auroc_macro"]
    reason = f"after epoch 3: val AUROC not above {best:.4f} (epoch 1) for 2 epochs"
    assert f"] Stopped early {reason}\n" in (folder / "train.log").read_text()
    assert show(stopped)["stopped early"] == reason
    shown = stopped("show", "latest", "--json").json
    assert (shown["stopped_early"], shown["stopped_because"]) == (True, reason)
    assert stopped("list").out.splitlines()[1].split("\t")[1:3] == ["completed", "3/9 early"]
    assert stopped("list", "--json").json[0]["stopped_early"] is True
    assert stopped("report", "latest").code == 0
    assert f"<dt>Stopped early</dt><dd>{reason}</dd>" in (folder / "report.html").read_text()


def test_run_that_used_all_epochs_was_not_stopped(trained: Genmed) -> None:
    shown = trained("show", "latest", "--json").json
    assert (shown["stopped_early"], shown["stopped_because"]) == (False, None)
    assert "stopped early" not in show(trained)
    assert "topped early" not in (trained.run_folder() / "train.log").read_text()


@pytest.mark.parametrize(
    ("changes", "row", "expected"),
    [
        ({"training.monitor": "loss"}, {"val_loss": 0.25}, "val loss not below 0.2500 (epoch 9) for 3 epochs"),
        ({"training.patience": 1}, {"val_auroc_macro": 0.913}, "val AUROC not above 0.9130 (epoch 9) for 1 epoch"),
        (
            {"training.validate_every": 2},
            {"val_auroc_macro": 0.5},
            "val AUROC not above 0.5000 (epoch 9) for 3 validations",
        ),
        ({}, {"val_auroc_macro": None}, "val AUROC not defined for 3 epochs"),
    ],
)
def test_reason_names_the_monitored_figure(
    trained: Genmed, changes: dict[str, Any], row: dict[str, float | None], expected: str
) -> None:
    document = RunFolder(trained.run_folder()).read()
    config = {**document.config, "training.patience": 3, **changes}
    ended = document.model_copy(update={"config": config, "best_epoch": 9, "epochs_done": 12})
    assert explain_early_stop(ended, [{"epoch": 9.0, **row}]) == f"after epoch 12: {expected}"


def test_reason_without_metrics_leaves_the_figure_out(trained: Genmed) -> None:
    document = RunFolder(trained.run_folder()).read()
    config = {**document.config, "training.patience": 3}
    ended = document.model_copy(update={"config": config, "best_epoch": 9, "epochs_done": 12})
    assert explain_early_stop(ended, []) == "after epoch 12: val AUROC not above that of epoch 9 for 3 epochs"
