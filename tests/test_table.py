"""genmed export --csv: a row a run, for a spreadsheet."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from genmed.records.registry import FINAL, RunRecord
from tests.harness import Genmed, edit_document
from tests.registries.making import START, make_registry, make_run


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def listed(genmed: Genmed) -> Genmed:
    """genmed with two completed runs whose learning rates differ, and a hidden one."""

    def record(run_id: str, lr: float, metrics: dict[str, float | None], **fields: Any) -> RunRecord:
        config = {"seed": 42, "optimizer.lr": lr, "training.epochs": 5, "model.name": run_id}
        return RunRecord(make_run(run_id, status="completed", config=config, **fields), metrics={FINAL: metrics})

    make_registry(genmed.root).rebuild(
        [
            record(
                "00000001", 0.1, {"test_auroc_macro": 0.5}, tags=["a b", "c"], note='say "so",\nor not', created=START
            ),
            record("00000002", 1e-4, {"test_auroc_macro": None, "test_loss": 0.1 + 0.2}, name="new"),
            record("00000003", 1e-4, {}, hidden=True),
        ]
    )
    return genmed


def test_table_has_what_differs_and_what_came_out(listed: Genmed) -> None:
    result = listed("export", "--csv")
    assert (result.code, result.err) == (0, "")
    new, old = read(result.out)
    assert (new["name"], old["id"], old["tags"], old["note"]) == ("new", "00000001", "a b;c", 'say "so",\nor not')
    assert old["created"] == "2026-01-28T19:30:00+00:00"
    assert [key for key in old if key.startswith("config.")] == ["config.optimizer.lr"]
    assert (float(old["config.optimizer.lr"]), float(new["config.optimizer.lr"])) == (0.1, 1e-4)
    assert (old["test_auroc_macro"], new["test_auroc_macro"], old["test_loss"]) == ("0.5", "", "")
    assert float(new["test_loss"]) == 0.1 + 0.2
    assert [row["test_loss"] for row in listed("export", "--csv", "--json").json] == [0.1 + 0.2, None]


def test_rows_are_named_or_chosen(listed: Genmed) -> None:
    assert [row["id"] for row in read(listed("export", "--csv", "00000003", "new", "new").out)] == [
        "00000003",
        "00000002",
    ]
    assert [row["id"] for row in read(listed("export", "--csv", "--tag", "c").out)] == ["00000001"]
    assert [row["id"] for row in read(listed("export", "--csv", "--hidden").out)] == ["00000003"]
    make_registry(listed.root, make_run("00000004", status="running"))
    (dead,) = read(listed("export", "--csv", "--status", "interrupted").out)
    assert (dead["id"], dead["status"]) == ("00000004", "interrupted")
    assert len(read(listed("export", "--csv", "--status", "completed", "--model", "resnet50").out)) == 2


def test_intervals_stand_beside_their_metrics(finished: Genmed, tmp_path: Path) -> None:
    estimate, without = {"value": 0.5, "low": 0.25, "high": 0.75}, {"value": 0.5, "low": None, "high": None}
    edit_document(
        finished.run_folder() / "evaluations" / "test.json",
        lambda document: document["metrics"].update(test_auroc_macro=estimate, test_auroc_Mass=without),
    )
    file = tmp_path / "runs.csv"
    told = finished("export", "--csv", "--out", file, "--json").json
    (row,) = read(file.read_text())
    assert (told["file"], told["runs"], told["columns"]) == (str(file), 1, list(row))
    at = list(row).index("test_auroc_macro")
    assert list(row)[at + 1 : at + 3] == ["test_auroc_macro_low", "test_auroc_macro_high"]
    assert (row["test_auroc_macro_low"], row["test_auroc_macro_high"]) == ("0.25", "0.75")
    assert "test_auroc_Edema_low" not in row  # undefined
    assert "test_auroc_Mass_low" not in row
    again = finished("export", "--csv", "--out", file)
    assert (again.code, len(again.err.splitlines())) == (2, 1)


def test_table_of_no_runs_has_its_columns_and_creates_nothing(genmed: Genmed) -> None:
    result = genmed("export", "--csv")
    assert result.out.startswith("name,id,status,")
    assert len(result.out.splitlines()) == 1
    assert genmed("export", "--csv", "--json").out == "[]\n"
    assert list(genmed.root.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "one RUN and --out FILE.zip are wanted, or --csv"),
        ("new", "one RUN and --out FILE.zip are wanted, or --csv"),
        ("--out run.zip", "one RUN and --out FILE.zip are wanted, or --csv"),
        ("new 00000001 --out r.zip", "one RUN and --out FILE.zip are wanted, or --csv"),
        ("new --out r.zip --tag c", "--tag and the like choose the rows of a table"),
        ("--csv new --tag c", "runs are either named or chosen by --tag and the like"),
        ("--csv nothing", "no run goes by 'nothing'"),
        ("--csv runs.csv", "no run goes by 'runs.csv'"),
        ("--csv new --root {elsewhere}", "there are no runs below"),
    ],
)
def test_export_that_is_not_clear_is_refused_in_one_line(
    listed: Genmed, tmp_path: Path, arguments: str, told: str
) -> None:
    result = listed("export", *arguments.format(elsewhere=tmp_path / "elsewhere").split())
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert told in result.err
