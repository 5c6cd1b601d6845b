"""Tables on terminals of several widths."""

import re
import sys

import pytest

from genmed.cli.output import print_table

COLUMNS = ["name", "status", "epochs", "test AUROC", "device", "created", "tags"]
NAMES = ["medmnist-pneumoniamnist-resnet18_small-s42-3fa9c2d1", "phantom-resnet18-s7-0dc30eec"]
REST = ["completed", "10/10", "0.9137", "cuda:0", "2026-01-28 19:30", "baseline after-the-review"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (40, ["name", "status"]),
        (80, ["name", "status", "epochs"]),
        (100, ["name", "status", "epochs", "test AUROC", "device"]),
        (120, ["name", "status", "epochs", "test AUROC", "device", "tags"]),
        (200, COLUMNS),
    ],
)
def test_name_of_a_run_is_never_broken_and_other_columns_give_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(
        COLUMNS,
        [[name, *REST] for name in NAMES],
        numbers=["epochs", "test AUROC"],
        whole=["name", "status", "created"],
        expendable=["device", "created", "tags", "test AUROC", "epochs"],
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    heads = next(line for line in lines if "name" in line)
    assert re.split(r" {2,}", heads.strip()) == shown
    assert [name for line in lines for name in NAMES if name in line] == NAMES
    assert max(len(line.rstrip()) for line in lines) <= max(width, len(NAMES[0]) + len("   completed") + 2)
    if "created" in shown:
        assert sum("2026-01-28 19:30" in line for line in lines) == 2


def test_all_columns_are_there_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [[NAMES[0], *REST]], whole=["name"], expendable=["tags"])
    assert capsys.readouterr().out == "\n".join("\t".join(row) for row in (COLUMNS, [NAMES[0], *REST])) + "\n"
