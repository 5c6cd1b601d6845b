"""A gathered run in words: headline, facts, verdict, environment, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from genmed.ground.wording import begin_sentence, name_file, say_many
from genmed.parts.data.records import EXCLUSIVE
from genmed.parts.metrics.names import WHOLE_NAMES
from genmed.parts.report.benchmark import list_figures, say_protocol
from genmed.parts.report.numbers import MISSING, RANKING, count, find_estimate, show, show_estimate, show_interval
from genmed.parts.report.page import Benchmark, Headline, Pairs, Verdict
from genmed.parts.report.seeds import find_spread, say_no_seed, say_seeds, show_range, show_spread
from genmed.parts.report.sentences import list_left_out, list_warnings, say_undefined
from genmed.records.config import flatten
from genmed.workflows.early_stop import explain_early_stop, is_stopped_early
from genmed.workflows.report.gathering import Gathered

TONES = {"identical": "good", "consistent": "good"}
"""Of a verdict that is not bad."""
SIDES = {"train": "training", "val": "validation", "test": "test"}


def say_headlines(run: Gathered) -> list[Headline]:
    """The mean AUROC; of classes that exclude each other also how often the first guess is right."""
    evaluation = run.evaluation
    classes = len(evaluation["classes"]) - len(evaluation["undefined"])
    macro = find_estimate(evaluation, "auroc", "macro")
    mean = (
        "test AUROC" if len(evaluation["classes"]) == 1 else f"test AUROC, mean of {count(classes, 'class', 'classes')}"
    )
    spread = say_spread(evaluation, "auroc", "macro")
    found = [Headline(show(macro["value"]), mean, show_interval(macro), say_extent(run), spread)]
    for metric, name in WHOLE_NAMES.items():
        estimate = find_estimate(evaluation, metric)
        if estimate["value"] is not None and evaluation["task"] in EXCLUSIVE:
            spread = say_spread(evaluation, metric)
            found.append(Headline(show(estimate["value"]), f"test {name.long}", show_interval(estimate), seeds=spread))
    return found


def say_spread(evaluation: Mapping[str, Any], metric: str, name: str = "") -> str:
    """`over 3 seeds 0.952 ± 0.004, from 0.947 to 0.957; beside the interval, no part of it`; '' where there is one."""
    spread = find_spread(evaluation, metric, name)
    if spread is None:
        return ""
    number = len(evaluation["seeds"]["seeds"])
    return f"over {number} seeds {show_spread(spread)}, from {show_range(spread)}; beside the interval, no part of it"


def say_extent(run: Gathered) -> str:
    """`over 120 patients, 339 images`."""
    evaluation = run.evaluation
    images = count(evaluation["images"], "image")
    return (
        f"over {images}"
        if evaluation["patients"] is None
        else f"over {count(evaluation['patients'], 'patient')}, {images}"
    )


def say_kicker(run: Gathered) -> str:
    return f"{run.data['title']} · {name_file(run.document.model)} · {say_day(run.document.ended)}"


def say_day(moment: datetime | None) -> str:
    return MISSING if moment is None else f"{moment.day} {moment:%B %Y}"


def say_verdict(last: Mapping[str, Any] | None, name: str) -> Verdict:
    """last: the last verification of the run of that name; None: there was none."""
    command = f"genmed verify {name}"
    if last is None:
        return Verdict("not verified", "open", "No verification was made yet. To train it again and compare:", command)
    word = str(last["verdict"])
    when = say_day(datetime.fromisoformat(last["created"]))
    says = f"Trained again on {when}: {last['steps_compared']:,} of {last['steps_total']:,} steps compared"
    if parted := last["first_divergence"]:
        says += f", first difference at step {parted['step']} in {parted['field']}"
    if last["problems"]:
        says += f". {last['problems'][0]}"
    tone = TONES.get(word, "good" if word.endswith("identical") else "bad")
    return Verdict(word, tone, f"{says}.")  # type: ignore[arg-type]


def say_facts(run: Gathered) -> Pairs:
    """What was run on what."""
    document, config, split = run.document, run.config, run.data["split"]
    sides = "; ".join(
        f"{SIDES[side]} {known['images']:,}"
        + ("" if known["patients"] is None else f" of {count(known['patients'], 'patient')}")
        for side, known in split["sides"].items()
    )
    seconds = (document.ended - document.started).total_seconds() if document.ended else None
    life = document.status, document.epochs_done, document.epochs_total
    return [
        ("Dataset", f"{run.data['dataset']}: {run.data['title']}"),
        ("Images", sides),
        ("Split", split["source"]),
        ("Model", f"{name_file(document.model)}, {name_file(config.model.weights)} weights"),
        ("Seed", str(document.seed)),
        ("Image size", f"{config.data.image_size} × {config.data.image_size} px"),
        ("Epochs", f"{document.epochs_done} of {document.epochs_total}, {count(document.steps_done, 'step')}"),
        *([("Stopped early", explain_early_stop(document, run.epochs))] if is_stopped_early(*life) else []),
        ("Batch", f"{config.training.batch_size} images"),
        ("Tested", say_selection(run)),
        ("Optimizer", f"{config.optimizer.name}, {config.optimizer.lr:g}, {config.schedule.name}"),
        ("Augmentation", config.augmentation.preset),
        ("Device", say_device(run.environment, document.device)),
        ("Took", MISSING if seconds is None else say_duration(seconds)),
        *([("Tags", ", ".join(document.tags))] if document.tags else []),
        *([("Note", document.note)] if document.note else []),
        *([("Continues", document.parent)] if document.parent else []),
    ]


def say_selection(run: Gathered) -> str:
    if run.config.training.select == "best" and run.document.best_epoch:
        return f"the weights of epoch {run.document.best_epoch}, the best on validation"
    return "the weights of the last epoch"


def say_duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `4 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def say_device(environment: Mapping[str, Any], device: str) -> str:
    if device == "cuda" and environment["gpus"]:
        return f"cuda, {environment['gpus'][0]['name']}"
    return f"{device}, {environment['cpu']['model']}"


def say_notes(run: Gathered) -> list[str]:
    """What a reader must know before the figures."""
    evaluation = run.evaluation
    notes = list(run.data["notes"])
    if evaluation["undefined"]:
        notes.append(f"Left out of means: {say_undefined(evaluation)}.")
    notes += [f"Left out: {text}." for text in list_left_out(evaluation)]
    for entry in run.document.accepted:
        notes.append(f"From step {entry.step} on the {entry.what} was another than recorded; it was accepted.")
    if lineage := run.data.get("lineage"):
        notes.append(f"Of the dataset as it is published: {lineage}.")
    return notes


def say_table(run: Gathered) -> str:
    """How the figures of the table came to be."""
    evaluation = run.evaluation
    units, level = say_many(evaluation["unit"]), f"{evaluation['level']:.0%}"
    return (
        f"Test images; {level} intervals below, from {evaluation['resamples']:,} resamples of {units}, for classes that"
        " 10 have and 10 have not. Thresholds: where sensitivity + specificity is highest on validation. The intervals"
        f" speak of this test's {units} alone, not of what another seed would have given. {say_third_line(run)}"
    )


def say_third_line(run: Gathered) -> str:
    """What the spread in the table is over, or how there would be one."""
    if seeds := run.evaluation["seeds"]:
        return f"That is the third line: mean ± standard deviation over {say_seeds(seeds)}."
    return f"{begin_sentence(say_no_seed(run.evaluation))}."


def say_benchmark(run: Gathered) -> Benchmark | None:
    """Where figures were published for the run's dataset."""
    found = run.evaluation.get("benchmark")
    if not found:
        return None
    caption = (
        f"As the authors define AUC and accuracy; intervals as above. {found['source']}: means of three trainings or"
        f" more. Protocol: {say_protocol(found)}."
    )
    return Benchmark(caption, list_figures(found, show_estimate))


def say_elsewhere(run: Gathered) -> list[tuple[str, str, str, str]]:
    """(data, images, mean AUROC, mean average precision) of each evaluation on other images that is kept."""
    found = []
    for evaluation in run.elsewhere:
        warned = f" ({'; '.join(list_warnings(evaluation))})" if list_warnings(evaluation) else ""
        auroc, precision = (show_estimate(find_estimate(evaluation, metric, "macro")) for metric in RANKING)
        data = f"{evaluation['dataset']}, {evaluation['split']}{warned}"
        found.append((data, f"{evaluation['images']:,}", auroc, precision))
    return found


def say_environment(run: Gathered) -> Pairs:
    """Machine and settings."""
    found, compute = run.environment, run.config.compute
    return [
        ("device", say_device(found, run.document.device)),
        ("operating system", f"{found['os']['system']} {found['os']['release']}"),
        ("Python", found["python"]["version"]),
        ("PyTorch", str(found["libraries"].get("torch_build") or found["packages"]["torch"])),
        ("determinism", compute.determinism),
        ("threads", str(compute.threads)),
        ("precision", f"{compute.precision}, TF32 {'on' if compute.tf32 else 'off'}"),
        ("shards", str(compute.shards)),
        ("git commit", say_commit(found.get("git") or {})),
    ]


def say_commit(git: Mapping[str, Any]) -> str:
    """`3cc7ba2e1f00, with changes`."""
    commit = str(git.get("commit") or "")[:12]
    return f"{commit}{', with changes' if git.get('dirty') else ''}" if commit else MISSING


def say_versions(run: Gathered) -> Pairs:
    packages, libraries = run.environment["packages"], run.environment["libraries"]
    return [(name, str(value)) for name, value in {**packages, **libraries}.items() if value is not None]


def say_settings(run: Gathered) -> Pairs:
    return [(key, say_value(value)) for key, value in flatten(run.config).items()]


def say_value(value: Any) -> str:
    """A plain value as people write it."""
    if value is None or value == "" or value == []:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def say_digests(run: Gathered) -> Pairs:
    document = run.document
    return [
        ("final state", document.fingerprint or MISSING),
        ("trace", document.trace_digest or MISSING),
        ("data", document.data_fingerprint),
        ("config", document.config_fingerprint),
        ("code", document.code_digest),
    ]


def list_commands(run: Gathered) -> Pairs:
    """What reproduces the run, and what proves it; below the folder that holds `runs/`."""
    name, git = run.document.name, run.environment.get("git") or {}
    commands = [
        ("Train it again from its record and compare each step", f"genmed verify {shlex.quote(name)}"),
        ("Train the same as a new run", shlex.join(["genmed", "train", "--config", f"runs/{name}/config.yaml"])),
        ("What this machine has that the run's had not", f"genmed env {shlex.quote(name)}"),
        ("Make this report anew, with plots for a paper", f"genmed report {shlex.quote(name)}"),
    ]
    if git.get("commit") and not git.get("dirty"):
        commands.insert(0, ("The code that it was trained with", f"git checkout {git['commit']}"))
    return commands
