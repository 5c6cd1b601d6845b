"""A model card in Markdown: what a model is, what it was trained on, how well it does and for whom.

The headings are those of Mitchell et al., Model Cards for Model Reporting, FAT* 2019. What only the authors can say is
asked of them in so many words, and never invented.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genmed.ground.wording import begin_sentence, name_file, name_some, say_count
from genmed.parts.metrics.names import METRIC_NAMES, WHOLE_NAMES
from genmed.parts.report.benchmark import COLUMNS, list_figures, say_protocol
from genmed.parts.report.numbers import RANKING, find_estimate, name_metric, show_plainly
from genmed.parts.report.seeds import find_spread, say_no_seed, say_seeds, show_range, show_spread
from genmed.parts.report.sentences import list_warnings, say_resamples, say_thresholds, say_undefined

ASKED = "*To be written by the authors:*"
SPREAD = ("mean ± sd", "lowest to highest")


@dataclass(frozen=True)
class Documents:
    """What a run left, as plain JSON."""

    run: Mapping[str, Any]
    """run.json"""
    config: Mapping[str, Any]
    """By dotted key."""
    data: Mapping[str, Any]
    """data.json"""
    environment: Mapping[str, Any]
    """environment.json"""
    evaluations: Sequence[Mapping[str, Any]]
    """With `seeds`; the run's own test first."""
    verdict: str
    """Of the last verification, in a sentence."""
    parameters: int | None = None


def write_card(documents: Documents) -> str:
    """The card, ending with a line break."""
    parts = [
        f"# Model card: {documents.run['name']}",
        *_tell_model(documents),
        *_tell_use(),
        *_tell_training(documents),
        *(line for evaluation in documents.evaluations for line in _tell_evaluation(evaluation)),
        *_tell_caveats(documents),
        *_tell_reproduction(documents),
    ]
    return "\n\n".join(parts) + "\n"


def _tell_model(documents: Documents) -> list[str]:
    run, config, data = documents.run, documents.config, documents.data
    colour = "RGB" if data.get("channels") == 3 else "grey"
    size = config["data.image_size"]
    weights = name_file(config["model.weights"])
    begun = "random initial weights" if weights == "random" else f"from {weights}"
    classes = ", ".join(data["classes"])
    rows = {
        "Network": f"{name_file(config['model.name'])}, {begun}, seed {run['seed']}",
        "Input": f"one {colour} image, {size} x {size} px, cropped to its middle square",
        "Output": f"{data['task']}: a probability for each of {classes}",
        "Trained": f"{run['ended'][:10]}, {say_count(run['epochs_done'], 'epoch')},"
        f" {say_count(run['steps_done'], 'step')}, with genmed {documents.environment['packages']['genmed']}",
        "Contact and licence of the model": ASKED,
    }
    return ["## Model details", _list(rows)]


def _tell_use() -> list[str]:
    return [
        "## Intended use",
        f"{ASKED} for whom, for which question, and what it must not be used for. It is the result of an experiment,"
        " not a medical device.",
    ]


def _tell_training(documents: Documents) -> list[str]:
    data, split = documents.data, documents.data["split"]
    sides = split["sides"]
    header = ["", *sides]
    rows = [["images", *(f"{side['images']:,}" for side in sides.values())]]
    if all(side["patients"] is not None for side in sides.values()):
        rows.append(["patients", *(f"{side['patients']:,}" for side in sides.values())])
    rows += [[name, *(f"{side['positives'][name]:,}" for side in sides.values())] for name in data["classes"]]
    known = {
        "Dataset": f"{data['title']} (`{data['dataset']}`)",
        "Split": split["source"],
        "Licence of the data": data["licence"] or "nobody said",
        **({"Citation": data["citation"]} if data["citation"] else {}),
        **({"Lineage": data["lineage"]} if data["lineage"] else {}),
        **({"Left out": say_count(len(data["left_out"]), "image")} if data["left_out"] else {}),
        "Fingerprint of the data": f"`{data['fingerprint']}`",
    }
    return ["## Training data", _list(known), "Images with each finding:", _table(header, rows)]


def _tell_evaluation(evaluation: Mapping[str, Any]) -> list[str]:
    side, own = evaluation["split"], evaluation["own"]
    title = "Results on the run's own test" if own else f"Results on {evaluation['dataset']}, {side}"
    patients = f" of {say_count(evaluation['patients'], 'patient')}" if evaluation["patients"] is not None else ""
    told = [
        f"## {title}",
        f"{say_count(evaluation['images'], 'image')}{patients}. Intervals: {say_resamples(evaluation)}; they speak of"
        " which patients were tested, not of what another seed of training would have given. Thresholds:"
        f" {say_thresholds(evaluation)}.",
        *(f"**{begin_sentence(warning)}.**" for warning in list_warnings(evaluation)),
    ]
    whole = [name for name in WHOLE_NAMES if name_metric(side, name) in evaluation["metrics"]]
    shown = {WHOLE_NAMES[name].long.capitalize(): show_plainly(find_estimate(evaluation, name)) for name in whole}
    told += [_list(shown)] if shown else []
    header = ["class", "positive", *(metric.long for metric in METRIC_NAMES.values())]
    names = {**{name: name for name in evaluation["classes"]}, "macro": "**mean of classes**"}
    rows = [
        [shown, _count(evaluation, name)]
        + [show_plainly(find_estimate(evaluation, metric, name)) for metric in METRIC_NAMES]
        for name, shown in names.items()
    ]
    told.append(_table(header, rows))
    told += _tell_seeds(evaluation, names)
    if benchmark := evaluation.get("benchmark"):
        told.append(f"Beside {benchmark['source']}; protocol: {say_protocol(benchmark)}:")
        told.append(_table(["", *COLUMNS], list_figures(benchmark, show_plainly)))
    if evaluation["groups"]:
        header = ["by", "group", "images", "patients", *(f"mean {METRIC_NAMES[metric].long}" for metric in RANKING)]
        rows = [
            [group["by"], group["value"], f"{group['images']:,}", _say_patients(group["patients"])]
            + [show_plainly(find_estimate(evaluation, metric, "macro", of=group)) for metric in RANKING]
            for group in evaluation["groups"]
        ]
        told += ["By group:", _table(header, rows)]
    return told


def _tell_seeds(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """names: of classes and their mean, as they are shown."""
    seeds = evaluation["seeds"]
    if not seeds:
        return [f"Spread over seeds: {say_no_seed(evaluation)}."]
    header = ["class", *(f"{METRIC_NAMES[metric].long}, {what}" for metric in RANKING for what in SPREAD)]
    found = {name: [find_spread(evaluation, metric, name) for metric in RANKING] for name in names}
    rows = [
        [names[name], *(cell or "-" for spread in spreads for cell in (show_spread(spread), show_range(spread)))]
        for name, spreads in found.items()
    ]
    return [f"Spread over {say_seeds(seeds)}; it is no part of the intervals:", _table(header, rows)]


def _tell_caveats(documents: Documents) -> list[str]:
    data, own = documents.data, next((each for each in documents.evaluations if each["own"]), None)
    told = list(data["notes"])
    if own:
        without = own["without_interval"]
        told += [f"No figure for {say_undefined(own)}"] if own["undefined"] else []
        told += [f"No interval for {name_some(without)}: too few patients"] if without else []
    if not data["split"]["official"]:
        told.append("The split is not an official one: do not compare these numbers with numbers on one")
    if not any(_is_elsewhere(evaluation, data) for evaluation in documents.evaluations):
        told.append("No evaluation on other data is kept here: `genmed evaluate RUN --dataset ... --data-root ...`")
    return [
        "## Caveats",
        "\n".join(f"- {line}" for line in told),
        f"{ASKED} known failures, groups that the data lack, ethical considerations.",
    ]


def _tell_reproduction(documents: Documents) -> list[str]:
    run, environment = documents.run, documents.environment
    commit = environment["git"].get("commit") if environment.get("git") else None
    known = {
        "Final state": f"`{run['fingerprint']}`",
        "Trace": f"`{run['trace_digest'] or 'none was kept'}`",
        "Code": f"`{run['code_digest']}`" + (f", git {commit[:12]}" if commit else ""),
        "Environment": f"Python {environment['python']['version']}, torch {environment['packages']['torch']},"
        f" {environment['cpu']['model'] if run['device'] == 'cpu' else environment['gpus'][0]['name']}",
        "Verified": documents.verdict,
    }
    commands = "\n".join(
        [
            f"genmed verify {run['id']}",
            f"genmed train --config runs/{run['name']}/config.yaml",
            f"genmed env {run['id']}",
        ]
    )
    return ["## Reproducing it", _list(known), f"```\n{commands}\n```"]


def _is_elsewhere(evaluation: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """The run's own validation or training side is no other data."""
    return not evaluation["own"] and evaluation["data_fingerprint"] != data["fingerprint"]


def _count(evaluation: Mapping[str, Any], name: str) -> str:
    return "" if name == "macro" else f"{evaluation['positives'][name]:,}"


def _say_patients(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _list(rows: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}:** {_escape(value)}" for name, value in rows.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(
        "| " + " | ".join(cell if line is lines[1] else _escape(cell) for cell in line) + " |" for line in lines
    )


def _escape(text: str) -> str:
    """Bars and angle brackets of names would break a table or be taken for HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")
