"""What a finished run came to, as a table for people."""

from pathlib import Path
from typing import Any

from genmed.cli.output import paint, print_line, print_table, show_note, show_number


def print_results(described: dict[str, Any]) -> None:
    """Each class's test and validation AUROC, and the mean; then what identifies the run."""
    from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
    from genmed.workflows.verification.last import format_last

    metrics = described["metrics"]
    prefix = "test_auroc_"
    labels = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
    labels = [label for label in labels if label != "macro"] + (["macro"] if "macro" in labels else [])
    rows = [
        [
            "mean of classes" if label == "macro" else label,
            show_number(metrics[f"test_auroc_{label}"]),
            show_number(metrics[f"test_average_precision_{label}"]),
            show_number(metrics[f"val_auroc_{label}"]),
        ]
        for label in labels
    ]
    if rows:
        auroc, precision = METRIC_NAMES["auroc"].short, METRIC_NAMES["average_precision"].short
        columns = ["class", f"test {auroc}", f"test {precision}", f"val {auroc} (used for selection)"]
        print_table(columns, rows, numbers=columns[1:])
    if described["benchmark"]:
        print_benchmark(described["benchmark"])
    whole = [(name, metrics[f"test_{name}"]) for name in WHOLE_NAMES if f"test_{name}" in metrics]
    print_pairs(
        [
            *((f"test {WHOLE_NAMES[name].long}", show_number(value)) for name, value in whole),
            ("run", described["name"]),
            ("status", described["status"]),
            ("folder", described["path"]),
            ("host", described["host"]),
            ("epochs, steps", f"{described['epochs_done']}, {described['steps_done']}"),
            *([("stopped early", described["stopped_because"])] if described["stopped_early"] else []),
            ("fingerprint", described["fingerprint"] or "-"),
            ("trace", described["trace_digest"] or "-"),
            *([("verified", format_last(described["verification"]))] if described["status"] != "running" else []),
            *([("tags", ", ".join(described["tags"]))] if described["tags"] else []),
            *([("note", show_note(described["note"]))] if described["note"] else []),
            *([("hidden", "by `genmed rm`; --restore brings it back")] if described["hidden"] else []),
            *([("continues", described["parent"])] if described["parent"] else []),
            *(("accepted", describe_accepted(entry)) for entry in described["accepted"]),
        ]
    )


def print_next_steps(described: dict[str, Any], root: Path) -> None:
    """Where the report of a finished run lies, and what to do with the run, on stderr."""
    import os
    import shlex

    folder = root / described["path"]
    usual = Path(os.environ.get("GENMED_ROOT") or ".")
    elsewhere = [] if root.resolve() == usual.resolve() else ["--root", str(root)]
    commands = {
        "report": str(folder / "report.html"),
        "results with intervals": shlex.join(["genmed", "evaluate", described["id"], *elsewhere]),
        "to verify it": shlex.join(["genmed", "verify", described["id"], *elsewhere]),
    }
    if not (folder / "report.html").is_file():
        commands["report"] = shlex.join(["genmed", "report", described["id"], *elsewhere])
    for what, how in commands.items():
        print_line(f"{what}: {how}")


def print_benchmark(benchmark: dict[str, Any]) -> None:
    """The run's figures above those that were published; then what makes them no fair match."""
    from genmed.parts.report.benchmark import COLUMNS, list_figures, say_protocol
    from genmed.parts.report.numbers import show_plainly

    print_table(["MedMNIST", *COLUMNS], list_figures(benchmark, show_plainly), numbers=COLUMNS)
    print_pairs([("protocol", say_protocol(benchmark)), ("published in", benchmark["source"])])


def describe_accepted(entry: dict[str, Any]) -> str:
    """`another environment from step 120 on: packages.torch was 2.10.0, is 2.11.0 and 3 more`."""
    first = entry["changes"][0]
    more = f" and {entry['count'] - 1} more" if entry["count"] > 1 else ""
    changed = f"{first['what']} was {first['recorded']}, is {first['found']}"
    return f"another {entry['what']} from step {entry['step']} on: {changed}{more}"


def print_pairs(pairs: list[tuple[str, str]]) -> None:
    """Names and values, one pair a line; a terminal has long values broken between words, the next line below."""
    import shutil
    import sys
    import textwrap

    width = max(len(name) for name, _ in pairs) + 2
    room = max(shutil.get_terminal_size().columns - width, 20)
    for name, value in pairs:
        if not sys.stdout.isatty():
            print(f"{name}\t{value}")
            continue
        lines = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            print(f"{name if number == 0 else '':<{width}}{paint(line)}")
