"""genmed card: every number of it is one of the run's documents; what only people know is asked of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.datasets.making import make_chexpert
from tests.harness import Genmed

Arguments = Callable[..., list[object]]


def test_card_says_what_the_run_left(trained: Genmed, tmp_path: Path) -> None:
    folder = trained.run_folder()
    root = make_chexpert(tmp_path / "chexpert")
    other = trained("evaluate", "latest", "--dataset", "chexpert", "--data-root", root, "--json").json
    result = trained("card", "latest")
    assert result.code == 0, result.err
    card = result.out
    run, data = (json.loads((folder / name).read_text()) for name in ("run.json", "data.json"))
    own = json.loads((folder / "evaluations" / "test.json").read_text())
    for text in (run["fingerprint"], run["trace_digest"], data["fingerprint"], data["title"], data["citation"]):
        assert text in card
    headings = re.findall("^## (.*)$", card, re.M)
    assert headings[:4] == ["Model details", "Intended use", "Training data", "Results on the run's own test"]
    assert f"Results on chexpert, {other['split']}" in headings
    found = own["metrics"]["test_auroc_Effusion"]
    section = card.partition("## Results on the run's own test")[2].partition("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("| Effusion |")]
    assert f"| {found['value']:.3f} (" in row or f"| {found['value']:.3f} |" in row
    assert f"| {own['positives']['Effusion']} |" in row
    assert f"No figure for {', '.join(own['undefined'])}" in card
    assert "not verified. No verification was made yet. To train it again and compare: `genmed verify" in card
    assert card.count("*To be written by the authors:*") == 3


def test_card_says_that_no_other_data_were_measured_until_they_are(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    missing = "No evaluation on other data is kept here"
    assert genmed(*tiny("--epochs", 1)).code == 0
    assert missing in genmed("card", "latest").out
    for side in ("val", "all"):
        assert genmed("evaluate", "latest", "--split", side).code == 0
        card = genmed("card", "latest").out
        assert f"## Results on nih, {side}\n" in card
        assert missing in card
    root = make_chexpert(tmp_path / "chexpert")
    assert genmed("evaluate", "latest", "--dataset", "chexpert", "--data-root", root).code == 0
    assert missing not in genmed("card", "latest").out


def test_card_is_written_where_nothing_is(trained: Genmed, tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    assert trained("card", "latest", "--out", out, "--json").json["file"] == str(out)
    text = out.read_text()
    again = trained("card", "latest", "--out", out)
    assert (again.code, "nothing is overwritten" in again.err, out.read_text()) == (2, True, text)
    assert trained("card", "latest", "--out", tmp_path / "card.txt").code == 2


def test_run_under_way_has_no_card(genmed: Genmed, tiny: Arguments) -> None:
    assert genmed(*tiny("--epochs", 1)).code == 0
    from tests.harness import edit_document

    edit_document(genmed.run_folder() / "run.json", lambda document: document.update(status="failed"))
    for command in ("card", "evaluate"):
        result = genmed(command, "latest", *(["--split", "all"] if command == "evaluate" else []))
        assert result.code == 2
        assert "is failed, and this needs a finished run (finish it with: genmed resume" in result.err
