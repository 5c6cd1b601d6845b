"""A study as tables for people: cells, comparisons, predictions that flip, and how to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmed.workflows.studies.plan import Plan


EXPENDABLE = ("flips of two seeds", "val mean", "status", "seeds")
"""Columns that a narrow terminal goes without, the first ones first."""


def print_plan(plan: Plan) -> None:
    """What would be trained."""
    from genmed.cli.output import print_table
    from genmed.cli.results import print_pairs

    keys = list(plan.cells[0].settings)
    print_table(["cell", *keys], [[cell.name, *(str(cell.settings[key]) for key in keys)] for cell in plan.cells])
    runs = len(plan.cells) * len(plan.seeds)
    print_pairs([("seeds", ", ".join(map(str, plan.seeds))), ("runs", str(runs)), ("compared by", plan.metric)])


def print_study(described: dict[str, Any]) -> None:
    """Of the test; what is undefined is '-'."""
    from genmed.cli.output import print_table, show_number
    from genmed.cli.results import print_pairs

    metric = described["metric"]
    flips = {entry["cell"]: entry for entry in described["flips"]}
    columns = ["cell", "status", "seeds", "mean (95%)", "sd of seeds", "val mean", "flips", "flips of two seeds"]
    rows = []
    for cell in described["cells"]:
        found = cell["metrics"].get(metric, dict.fromkeys(("mean", "sd", "low", "high")))
        flipped = flips.get(cell["cell"], {"share": None, "pairwise": None})
        done = sum(run["status"] == "completed" for run in cell["runs"])
        rows.append(
            [
                cell["cell"],
                cell["status"],
                f"{done}/{len(cell['runs'])}",
                _show_interval(found["mean"], found, 4),
                show_number(found["sd"]),
                show_number(cell["val_mean"]),
                _show_share(flipped["share"]),
                _show_share(flipped["pairwise"]),
            ]
        )
    print_table(columns, rows, numbers=columns[2:], expendable=EXPENDABLE)
    if described["comparisons"]:
        columns = ["compared", "difference (95%)", "p", "p (Holm)", "seeds"]
        rows = [
            [
                f"{entry['a']} - {entry['b']}",
                _show_interval(entry["difference"], entry, 4, sign="+"),
                _show_p(entry["p"]),
                _show_p(entry["p_holm"]),
                str(entry["seeds"]),
            ]
            for entry in described["comparisons"]
        ]
        print_table(columns, rows, numbers=columns[1:])
    _print_flips(described["flips"])
    print_pairs(_describe(described))


def _print_flips(flips: list[dict[str, Any]]) -> None:
    """By class, where there is more than one seed."""
    from genmed.cli.output import print_table

    known = [entry for entry in flips if entry["share"] is not None]
    if not known:
        return
    cells = [f"flips, {entry['cell']}" for entry in known]
    names = dict.fromkeys(name for entry in known for name in entry["classes"])
    rows = [[name, *(_show_share(entry["classes"].get(name)) for entry in known)] for name in names]
    print_table(["class", *cells], rows, numbers=cells)


def _describe(described: dict[str, Any]) -> list[tuple[str, str]]:
    failed = [(cell["cell"], run) for cell in described["cells"] for run in cell["runs"] if run["status"] == "failed"]
    drawn = f"{described['level']:.0%}, {described['resamples']:,} resamples of seeds and of {described['unit']}s"
    return [
        ("study", described["study"]),
        ("status", f"{described['status']}, {described['runs_done']} of {described['runs_total']} runs"),
        ("folder", described["path"]),
        ("metric", described["metric"]),
        ("seeds", ", ".join(map(str, described["seeds"]))),
        *([("intervals", drawn)] if described["unit"] else []),
        *(("failed", f"{cell} seed {run['seed']}: {run['error']}") for cell, run in failed),
        *(("note", note) for note in described["notes"]),
    ]


def _show_interval(value: float | None, found: dict[str, Any], digits: int, sign: str = "") -> str:
    """`0.914 (0.889, 0.937)`."""
    if value is None:
        return "-"
    numbers = [f"{number:{sign}.{digits}f}" for number in (value, found["low"], found["high"]) if number is not None]
    return f"{numbers[0]} ({numbers[1]}, {numbers[2]})" if len(numbers) == 3 else numbers[0]


def _show_share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _show_p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
