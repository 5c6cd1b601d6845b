"""genmed evaluate"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from genmed.cli.data.options import complete_dataset
from genmed.cli.options import DataRoot, Debug, Json, Root, RunReference, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.records.run_folder import RunFolder
    from genmed.workflows.evaluation.elsewhere import Elsewhere


def command(
    run: RunReference,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Other data than the run's own test, as of `genmed train`.",
            autocompletion=complete_dataset,
            show_default=False,
        ),
    ] = None,
    data_root: DataRoot = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE",
            help="train, val, test or all of these data; their official test if they have one, else all.",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'RUN CLASS=DATA CLASS'", help="Two names of one finding; repeatable.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A key of data, labels or manifest; repeatable.", show_default=False
        ),
    ] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a finished run on its own test, or on other data: each metric with its interval over patients."""
    from genmed.cli.output import print_json
    from genmed.cli.screen import Plain
    from genmed.workflows.evaluation.kept import evaluate_own
    from genmed.workflows.evaluation.over_seeds import add_seeds
    from genmed.workflows.overview import find_run

    folder = find_run(run, root_folder(root))
    if any((dataset, data_root, split, match, settings)):
        from genmed.workflows.evaluation.elsewhere import Elsewhere

        pairs = dict(_split_pair(pair) for pair in match or ())
        asked = Elsewhere(dataset, data_root, split, pairs, tuple(settings or ()), device)
        evaluation = _evaluate_elsewhere(folder, asked)
    else:
        evaluation = evaluate_own(folder, Plain())
    evaluation = add_seeds(folder, evaluation)
    print_json(evaluation) if json else print_evaluation(evaluation)


def _split_pair(pair: str) -> tuple[str, str]:
    ours, equals, theirs = pair.partition("=")
    if not (ours and equals and theirs):
        raise RequestError(f"--match takes two names, got {pair!r}", "for example --match 'Effusion=Pleural Effusion'")
    return ours.strip(), theirs.strip()


def _evaluate_elsewhere(folder: "RunFolder", asked: "Elsewhere") -> dict[str, Any]:
    from genmed.cli.screen import open_screen
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.evaluation.elsewhere import check_request, evaluate_elsewhere
    from genmed.workflows.identity import read_config

    check_request(asked)
    restart(interpreter_variables(read_config(folder, folder.read())))
    with open_screen() as screen:
        return evaluate_elsewhere(folder, asked, screen)


RANKING = ("auroc", "average_precision")
CALIBRATION = ("brier", "ece", "calibration_slope")
AT_THRESHOLD = ("sensitivity", "specificity", "f1", "net_benefit")


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """By class: how it ranks, and whether scores are probabilities; what is called at the threshold; by group."""
    from genmed.cli.output import print_table, show_number
    from genmed.cli.results import print_benchmark, print_pairs
    from genmed.parts.metrics.names import METRIC_NAMES as CALLED

    sure = [f"{CALLED[metric].short} (95%)" for metric in RANKING]
    names = [*evaluation["classes"], "macro"]
    columns = ["positives", *sure, *(CALLED[metric].short for metric in CALIBRATION)]
    rows = [
        [_call(name), _show_positives(evaluation, name)]
        + [_show_estimate(evaluation, evaluation["metrics"], metric, name) for metric in RANKING]
        + [show_number(_value(evaluation, metric, name), 3) for metric in CALIBRATION]
        for name in names
    ]
    print_table(["class", *columns], rows, numbers=columns)
    columns = ["threshold", *(CALLED[metric].long for metric in AT_THRESHOLD)]
    rows = [
        [_call(name), show_number(evaluation["thresholds"].get(name))]
        + [show_number(_value(evaluation, metric, name), 3) for metric in AT_THRESHOLD]
        for name in names
    ]
    print_table(["class", *columns], rows, numbers=columns)
    if evaluation["groups"]:
        rows = [
            [group["by"], group["value"], f"{group['images']:,}", _show_count(group["patients"])]
            + [_show_estimate(evaluation, group["metrics"], metric, "macro") for metric in RANKING]
            for group in evaluation["groups"]
        ]
        columns = ["images", "patients", *(f"mean {column}" for column in sure)]
        print_table(["by", "group", *columns], rows, numbers=columns)
    if evaluation["benchmark"]:
        print_benchmark(evaluation["benchmark"])
    if evaluation["seeds"]:
        _print_spread(evaluation, names)
    print_pairs(_describe(evaluation))


def _print_spread(evaluation: dict[str, Any], names: list[str]) -> None:
    from genmed.cli.output import print_table, show_number
    from genmed.parts.metrics.names import METRIC_NAMES
    from genmed.parts.report.seeds import find_spread, show_range

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
    from genmed.parts.metrics.names import WHOLE_NAMES

    left_out, split, own = evaluation["undefined"], evaluation["split"], evaluation["own"]
    few = evaluation["without_interval"]
    judged = "studies, by the highest score of their images" if evaluation["studies"] else "images"
    whole = [name for name in WHOLE_NAMES if f"{split}_{name}" in evaluation["metrics"]]
    drawn = f"{evaluation['level']:.0%}, {evaluation['resamples']:,} resamples by {evaluation['unit']}"
    return [
        *((WHOLE_NAMES[name].long, _show_whole(evaluation, name)) for name in whole),
        *_describe_last(evaluation),
        ("run", evaluation["run"]),
        ("data", f"{evaluation['dataset']}, {split}: {evaluation['images']:,} images"),
        ("patients", _show_count(evaluation["patients"])),
        ("judged", judged),
        ("split", evaluation["split_source"]),
        ("intervals", f"{drawn}, where 10 patients have the class and 10 have not"),
        ("thresholds", f"where sensitivity + specificity is highest on {evaluation['thresholds_from']}"),
        *([("left out", f"{', '.join(left_out)}: all or no images have it")] if left_out else []),
        *([("no interval", f"{', '.join(few)}: under 10 patients have it, or have it not")] if few else []),
        *([] if own else _describe_elsewhere(evaluation)),
        ("seeds", _describe_seeds(evaluation)),
    ]


def _describe_last(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    """The last epoch's mean, where it was measured beside the best one's."""
    last = evaluation.get("last")
    if not last:
        return []
    from genmed.parts.metrics.names import METRIC_NAMES

    means = {metric: _show_estimate(evaluation, last["metrics"], metric, "macro") for metric in RANKING}
    shown = ", ".join(f"mean {METRIC_NAMES[metric].short} {value}" for metric, value in means.items())
    return [(f"last epoch, {last['epoch']}", shown)]


def _describe_seeds(evaluation: dict[str, Any]) -> str:
    from genmed.parts.report.seeds import say_seeds, study_command

    alone = "the intervals are of the test's patients alone"
    if evaluation["seeds"]:
        return f"{say_seeds(evaluation['seeds'])}; {alone}"
    command = study_command(evaluation["run"]) + ("" if evaluation["own"] else ", then `genmed evaluate` for each run")
    return f"{alone}, and no other seed is known: {command}"


def _describe_elsewhere(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    """How far these data are from those of the training."""
    renamed = [f"{ours} is {theirs}" for ours, theirs in evaluation["matched"].items() if ours != theirs]
    without, seen = evaluation["without_match"], evaluation["trained_on"]
    return [
        *([("matched", ", ".join(renamed))] if renamed else []),
        *([("no match", ", ".join(without))] if without else []),
        *([("warning", f"the run was trained or selected on {seen:,} of these images")] if seen else []),
        *([("warning", "the datasets share images: see their lineage")] if evaluation["related"] else []),
    ]


def _call(name: str) -> str:
    return "mean of classes" if name == "macro" else name


def _value(evaluation: dict[str, Any], metric: str, name: str) -> float | None:
    value: float | None = evaluation["metrics"][f"{evaluation['split']}_{metric}_{name}"]["value"]
    return value


def _show_whole(evaluation: dict[str, Any], metric: str) -> str:
    """`0.914 (0.889, 0.937); over 3 seeds 0.910, sd 0.004, 0.906 to 0.914`."""
    from genmed.cli.output import show_number
    from genmed.parts.report.seeds import find_spread, show_range

    shown, spread = _show_estimate(evaluation, evaluation["metrics"], metric), find_spread(evaluation, metric)
    if not spread:
        return shown
    numbers = f"{show_number(spread['mean'], 3)}, sd {show_number(spread['sd'], 3)}, {show_range(spread)}"
    return f"{shown}; over {len(evaluation['seeds']['seeds'])} seeds {numbers}"


def _show_positives(evaluation: dict[str, Any], name: str) -> str:
    if name == "macro":
        return ""
    positives = evaluation["positives"][name]
    return f"{positives:,}/{positives + evaluation['negatives'][name]:,}"


def _show_estimate(evaluation: dict[str, Any], metrics: dict[str, Any], metric: str, name: str = "") -> str:
    from genmed.cli.output import show_interval

    return show_interval(metrics["_".join(filter(None, (evaluation["split"], metric, name)))])


def _show_count(count: int | None) -> str:
    return "nobody knows them" if count is None else f"{count:,}"
