"""What a run came to on its test and elsewhere is in the registry, however the registry came to be."""

import json
import shutil

from genmed.records.registry import EvaluationRow, open_registry
from tests.harness import Genmed


def read_rows(genmed: Genmed) -> list[EvaluationRow]:
    registry = open_registry(genmed.root, create=False)
    assert registry is not None
    return registry.evaluations(registry.find("latest").id)


def test_finished_run_has_the_headline_of_its_own_test_in_the_registry(trained: Genmed) -> None:
    (row,) = read_rows(trained)
    document = json.loads((trained.run_folder() / "evaluations" / "test.json").read_text())
    assert (row.name, row.dataset, row.split, row.images) == ("test", "nih", "test", document["images"])
    assert row.created.isoformat() == document["created"]
    assert row.report["metrics"]["test_auroc_macro"] == document["metrics"]["test_auroc_macro"]
    assert all(name.endswith("_macro") for name in row.report["metrics"])
    assert row.report["patients"] == document["patients"]
    assert len(json.dumps(row.report)) < 3000


def test_evaluation_anew_replaces_the_row(finished: Genmed) -> None:
    (before,) = read_rows(finished)
    assert finished("evaluate", "latest", "--json").code == 0
    (after,) = read_rows(finished)
    assert after.created > before.created
    assert after.report == before.report


def test_rebuilt_registry_has_the_evaluations_of_the_folders(finished: Genmed) -> None:
    path = finished.run_folder() / "evaluations" / "test.json"
    other = path.with_name("other.json")
    shutil.copy(path, other)
    before = read_rows(finished)
    other.write_text(other.read_text().replace("nih", "NIH", 1))
    (finished.root / "registry.db").unlink()
    result = finished("list", "--rebuild")
    assert "registry rebuilt: 1 runs" in result.err
    assert f"left out an evaluation of {finished.run_folder().name}: {other} is damaged" in result.err
    assert read_rows(finished) == before


def test_registry_that_cannot_be_written_does_not_fail_the_evaluation(finished: Genmed) -> None:
    (finished.root / "registry.db").write_bytes(b"no database\n" * 999)
    from genmed.records.run_folder import RunFolder
    from genmed.workflows.evaluation.kept import evaluate_own
    from genmed.workflows.reporting import Silent

    class Listener(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    folder = RunFolder(finished.run_folder())
    before = folder.evaluations_path.joinpath("test.json").read_text()
    assert evaluate_own(folder, Listener())["name"] == "test"
    assert folder.evaluations_path.joinpath("test.json").read_text() != before
    (line,) = told
    assert "registry.db" in line
    (finished.root / "registry.db").unlink()
    evaluate_own(folder, Listener())
    assert len(told) == 1
    assert not (finished.root / "registry.db").exists()
