"""An evaluation as tables for people: classes, thresholds, groups, seeds; then what the figures are of."""

from typing import Any

from genmed.cli.output import print_table, show_number
from genmed.cli.results import print_benchmark, print_pairs
from genmed.ground.wording import say_many
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.report.numbers import RANKING, find_estimate, name_metric, show_plainly
from genmed.parts.report.seeds import find_spread, say_no_seed, say_seeds, show_range
from genmed.parts.report.sentences import (
    list_left_out,
    list_warnings,
    say_resamples,
    say_thresholds,
    say_undefined,
    say_whole,
)

CALIBRATION = ("brier", "ece", "calibration_slope")
AT_THRESHOLD = ("sensitivity", "specificity", "f1", "net_benefit")
SURE = [f"{METRIC_NAMES[metric].short} (95%)" for metric in RANKING]


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """By class: how it ranks, and whether scores are probabilities; what is called at the threshold; by group."""
    names = [*evaluation["classes"], "macro"]
    if warnings := list_warnings(evaluation):
        print_pairs([("warning", warning) for warning in warnings])
    _print_classes(evaluation, names)
    _print_thresholds(evaluation, names)
    if evaluation["groups"]:
        _print_groups(evaluation)
    if evaluation["benchmark"]:
        print_benchmark(evaluation["benchmark"])
    if evaluation["seeds"]:
        _print_spread(evaluation, names)
    print_pairs(_describe(evaluation))


def _print_classes(evaluation: dict[str, Any], names: list[str]) -> None:
    columns = ["positives", *SURE, *(METRIC_NAMES[metric].short for metric in CALIBRATION)]
    rows = [
        [_call(name), _show_positives(evaluation, name)]
        + [show_plainly(find_estimate(evaluation, metric, name)) for metric in RANKING]
        + [_show_value(evaluation, metric, name) for metric in CALIBRATION]
        for name in names
    ]
    print_table(["class", *columns], rows, numbers=columns)


def _print_thresholds(evaluation: dict[str, Any], names: list[str]) -> None:
    columns = ["threshold", *(METRIC_NAMES[metric].long for metric in AT_THRESHOLD)]
    rows = [
        [_call(name), show_number(evaluation["thresholds"].get(name))]
        + [_show_value(evaluation, metric, name) for metric in AT_THRESHOLD]
        for name in names
    ]
    print_table(["class", *columns], rows, numbers=columns)


def _print_groups(evaluation: dict[str, Any]) -> None:
    columns = ["images", "patients", *(f"mean {column}" for column in SURE)]
    rows = [
        [group["by"], group["value"], f"{group['images']:,}", _show_count(group["patients"])]
        + [show_plainly(find_estimate(evaluation, metric, "macro", of=group)) for metric in RANKING]
        for group in evaluation["groups"]
    ]
    print_table(["by", "group", *columns], rows, numbers=columns)


def _print_spread(evaluation: dict[str, Any], names: list[str]) -> None:
    columns = [f"{METRIC_NAMES[metric].short} {what}" for metric in RANKING for what in ("mean", "sd", "range")]
    rows = []
    for name in names:
        spreads = [find_spread(evaluation, metric, name) for metric in RANKING]
        shown = [
            [show_number(found["mean"], 3), show_number(found["sd"], 3), show_range(found)] if found else ["-"] * 3
            for found in spreads
        ]
        rows.append([_call(name), *shown[0], *shown[1]])
    over = f"over {len(evaluation['seeds']['seeds'])} seeds"
    print_table([over, *columns], rows, numbers=columns, expendable=columns[:2:-1])


def _describe(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    split, few = evaluation["split"], evaluation["without_interval"]
    judged = "studies, each by the highest score of its images" if evaluation["studies"] else "image by image"
    units = say_many(evaluation["unit"])
    whole = [name for name in WHOLE_NAMES if name_metric(split, name) in evaluation["metrics"]]
    return [
        *((say_whole(evaluation, name), _show_whole(evaluation, name)) for name in whole),
        *_describe_last(evaluation),
        ("run", evaluation["run"]),
        ("data", f"{evaluation['dataset']}, {split}: {evaluation['images']:,} images"),
        ("patients", _show_count(evaluation["patients"])),
        ("judged", judged),
        ("split", evaluation["split_source"]),
        ("intervals", f"{say_resamples(evaluation)}, where 10 {units} have the class and 10 have not"),
        ("thresholds", say_thresholds(evaluation)),
        *([("left out", say_undefined(evaluation))] if evaluation["undefined"] else []),
        *(("left out", text) for text in list_left_out(evaluation)),
        *([("no interval", f"{', '.join(few)}: under 10 {units} have it, or have it not")] if few else []),
        *([] if evaluation["own"] else _describe_matches(evaluation)),
        ("seeds", _describe_seeds(evaluation)),
    ]


def _describe_last(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    """The last epoch's mean, where it was measured beside the best one's."""
    last = evaluation.get("last")
    if not last:
        return []
    means = {metric: show_plainly(find_estimate(evaluation, metric, "macro", of=last)) for metric in RANKING}
    shown = ", ".join(f"mean {METRIC_NAMES[metric].short} {value}" for metric, value in means.items())
    return [(f"last epoch, {last['epoch']}", shown)]


def _describe_matches(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    """Which classes of the run are which of other data."""
    renamed = [f"{ours} is {theirs}" for ours, theirs in evaluation["matched"].items() if ours != theirs]
    without = evaluation["without_match"]
    return [
        *([("matched", ", ".join(renamed))] if renamed else []),
        *([("no match", ", ".join(without))] if without else []),
    ]


def _describe_seeds(evaluation: dict[str, Any]) -> str:
    alone = f"the intervals are of these {say_many(evaluation['unit'])} alone"
    if evaluation["seeds"]:
        return f"{say_seeds(evaluation['seeds'])}; {alone}"
    return f"{alone}, and {say_no_seed(evaluation)}"


def _call(name: str) -> str:
    return "mean of classes" if name == "macro" else name


def _show_value(evaluation: dict[str, Any], metric: str, name: str) -> str:
    return show_number(find_estimate(evaluation, metric, name)["value"], 3)


def _show_whole(evaluation: dict[str, Any], metric: str) -> str:
    """`0.914 (0.889, 0.937); over 3 seeds 0.910, sd 0.004, 0.906 to 0.914`."""
    shown, spread = show_plainly(find_estimate(evaluation, metric)), find_spread(evaluation, metric)
    if not spread:
        return shown
    numbers = f"{show_number(spread['mean'], 3)}, sd {show_number(spread['sd'], 3)}, {show_range(spread)}"
    return f"{shown}; over {len(evaluation['seeds']['seeds'])} seeds {numbers}"


def _show_positives(evaluation: dict[str, Any], name: str) -> str:
    if name == "macro":
        return ""
    positives = evaluation["positives"][name]
    return f"{positives:,}/{positives + evaluation['negatives'][name]:,}"


def _show_count(count: int | None) -> str:
    return "not known" if count is None else f"{count:,}"
