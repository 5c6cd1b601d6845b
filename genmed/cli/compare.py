"""genmed compare"""

from typing import TYPE_CHECKING

from genmed.cli.options import Debug, Json, Root, RunReference, root_folder

if TYPE_CHECKING:
    from genmed.records.run_folder import RunDocument
    from genmed.workflows.compare import Comparison, DataDifference, Steps, TraceComparison

IMAGES_SHOWN = 10


def command(
    first: RunReference, second: RunReference, root: Root = None, json: Json = False, debug: Debug = False
) -> None:
    """Compare two runs: what differs between them, and where their traces part."""
    from genmed.cli.output import print_json
    from genmed.workflows.compare import compare
    from genmed.workflows.overview import find_run

    place = root_folder(root)
    comparison = compare(find_run(first, place), find_run(second, place))
    print_json(comparison.to_json()) if json else _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    from genmed.cli.results import print_pairs

    _print_tables(comparison)
    pairs = []
    for which, document in (("first", comparison.first), ("second", comparison.second)):
        pairs.append((f"{which} run", _describe_run(document)))
    print_pairs([*pairs, *_describe_trace(comparison)])


def _print_tables(comparison: "Comparison") -> None:
    """A table for each part that differs."""
    from genmed.cli.output import print_table, show_difference, show_number, show_truth, show_value

    values = ["first", "second"]
    if comparison.config:
        rows = [
            [entry.key, show_value(entry.first), show_value(entry.second), show_truth(entry.affects_bits)]
            for entry in comparison.config
        ]
        print_table(["config", *values, "affects bits"], rows)
    if comparison.code:
        rows = [[entry.file, show_value(entry.first), show_value(entry.second)] for entry in comparison.code]
        print_table(["code", *values], rows)
    if comparison.environment:
        rows = [
            [entry.field, show_value(entry.first), show_value(entry.second), show_truth(entry.changes_bits), entry.why]
            for entry in comparison.environment
        ]
        print_table(["environment", *values, "can change bits", "why"], rows)
    if comparison.data:
        print_table(["data", *values], _list_data(comparison.data))
    if comparison.metrics:
        rows = [
            [entry.name, show_number(entry.first), show_number(entry.second), show_difference(entry.difference)]
            for entry in comparison.metrics
        ]
        print_table(["metric", *values, "difference"], rows, numbers=[*values, "difference"])


def _list_data(data: "DataDifference") -> list[list[str]]:
    """The fingerprints, the first images, and how many more there are."""
    from genmed.cli.output import show_value

    shown = data.images[:IMAGES_SHOWN]
    rows = [["fingerprint", show_value(data.first), show_value(data.second)]]
    rows += [[entry.what, show_value(entry.first), show_value(entry.second)] for entry in shown]
    if data.count > len(shown):
        rows.append([f"and {data.count - len(shown)} more", "", ""])
    return rows


def _describe_run(document: "RunDocument") -> str:
    """Its name, and what a reader must know of it."""
    from genmed.cli.results import describe_accepted

    notes: list[str] = [] if document.true_status == "completed" else [document.true_status]
    notes += [describe_accepted(entry.model_dump(mode="json")) for entry in document.accepted]
    return f"{document.name} ({'; '.join(notes)})" if notes else document.name


def _describe_trace(comparison: "Comparison") -> list[tuple[str, str]]:
    trace = comparison.trace
    if trace.first is None or trace.second is None:
        without = " and ".join(
            name for name, steps in (("first", trace.first), ("second", trace.second)) if steps is None
        )
        return [("traces", f"cannot be compared: the {without} run has none"), *_describe_final_states(comparison)]
    return [
        ("steps", f"{_show_steps(trace.first)}, {_show_steps(trace.second)}"),
        ("equal steps", str(trace.equal)),
        ("traces", _describe_divergence(comparison, trace, trace.first, trace.second)),
    ]


def _describe_divergence(comparison: "Comparison", trace: "TraceComparison", first: "Steps", second: "Steps") -> str:
    parted = trace.first_divergence
    if parted and parted.field == "initial":
        return f"part before step {parted.step + 1}: the initial states differ"
    if parted:
        return f"part at step {parted.step}, epoch {parted.epoch}: {parted.field}"
    if comparison.identical:
        return f"identical: all {trace.equal} steps are equal"
    if trace.whole:
        return "equal as far as both runs came"
    if not trace.equal:
        return "have no step in common"
    if first.last == second.last:
        longer = "first" if first.start < second.start else "second"
        return f"equal from step {max(first.start, second.start) + 1} on, before which the {longer} run has more steps"
    longer = "first" if first.last > second.last else "second"
    return f"equal as far as both go; the {longer} run has {abs(first.last - second.last)} more steps"


def _describe_final_states(comparison: "Comparison") -> list[tuple[str, str]]:
    """What is left to compare without a trace."""
    states = comparison.first.fingerprint, comparison.second.fingerprint
    if None in states:
        return []
    return [("final states", "equal" if states[0] == states[1] else "differ")]


def _show_steps(steps: "Steps") -> str:
    """`28`, or `14 from step 22 on`."""
    return f"{steps.count} from step {steps.start + 1} on" if steps.start else str(steps.count)
