"""One run's report: its page, and on demand its plots as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.files import write_text
from genmed.parts.data.records import EXCLUSIVE, TaskKind
from genmed.parts.report.charts import draw_confusion, draw_curves, draw_forests, draw_training, list_classes
from genmed.parts.report.errors import WrongCall, choose_errors
from genmed.parts.report.figures import Figure
from genmed.parts.report.numbers import show
from genmed.parts.report.page import Card, RunPage, render_run, replace_verdict
from genmed.parts.report.pictures import embed
from genmed.parts.report.table import list_means, list_rows
from genmed.records.run_folder import RunFolder
from genmed.workflows.assemble import Session
from genmed.workflows.report import words
from genmed.workflows.report.gathering import Gathered, gather
from genmed.workflows.report.pictures import NoPictures, Pictures, PicturesAtHand
from genmed.workflows.report.plots import write_figures
from genmed.workflows.reporting import Reporter


def write_report(folder: RunFolder, pictures: Pictures) -> Path:
    """Writes report.html anew and returns its path. Raises RequestError, RecordError, StorageError."""
    run = gather(folder)
    write_text(folder.report_path, render_run(make_page(run, pictures)))
    return folder.report_path


def refresh_verdict(folder: RunFolder, reporter: Reporter) -> None:
    """Puts the run's last verification into its report.html, if it has one; a failure is told, and fails nothing."""
    if not folder.report_path.is_file():
        return
    try:
        last = folder.read_verifications()[-1]
        page = replace_verdict(folder.report_path.read_text(encoding="utf-8"), words.say_verdict(last, folder.name))
        if page is None:
            raise RecordError(f"{folder.report_path} is not as genmed wrote it")
        write_text(folder.report_path, page)
    except (GenmedError, OSError, UnicodeDecodeError) as error:
        what = error.message if isinstance(error, GenmedError) else str(error)
        reporter.message(f"report.html shows no new verdict: {what}; `genmed report {folder.name}` makes it again")


def write_report_at_hand(session: Session, folder: RunFolder, reporter: Reporter) -> None:
    """The report of the run that this process has just completed; a failure is told, and fails nothing."""
    try:
        write_report(folder, PicturesAtHand(session))
    except (Exception, KeyboardInterrupt) as error:  # a signal, too: the run is complete, and has nothing to save
        what = error.say() if isinstance(error, GenmedError) else f"{type(error).__name__} {error}".strip()
        reporter.message(f"No report: {what}; `genmed report {folder.name}` makes it anew")


def write_plots(folder: RunFolder) -> list[Path]:
    """Writes each figure as PNG and SVG in plots/, and returns the paths. Raises RequestError, RecordError."""
    training, figures = draw_figures(gather(folder))
    return write_figures([*([training] if training else []), *figures], folder.plots_path)


def draw_figures(run: Gathered) -> tuple[Figure | None, list[Figure]]:
    """That of the training, if there is a row of metrics, and those of the test."""
    judged = run.test.pool()
    classes = list_classes(judged.scores, judged.truth, judged.classes, run.evaluation["thresholds"])
    selected = run.document.best_epoch if run.config.training.select == "best" else 0
    training = draw_training(run.epochs, selected) if run.epochs else None
    figures = draw_curves(classes, run.evaluation) if classes else []
    if judged.kind in EXCLUSIVE:
        figures.append(draw_confusion(judged.scores, judged.truth, judged.classes))
    return training, [*figures, draw_forests(run.evaluation)]


def make_page(run: Gathered, pictures: Pictures) -> RunPage:
    """The report in words and figures."""
    training, figures = draw_figures(run)
    test, evaluation = run.test, run.evaluation
    wrong = choose_errors(test.scores, test.truth, test.classes, test.kind, evaluation["thresholds"])
    cards, remark = make_cards(run, wrong, pictures)
    return RunPage(
        title=run.document.name,
        kicker=words.say_kicker(run),
        level=f"{evaluation['level']:.0%}",
        headlines=words.say_headlines(run),
        verdict=words.say_verdict(run.verification, run.document.name),
        facts=words.say_facts(run),
        notes=words.say_notes(run),
        training=training,
        table_caption=words.say_table(run),
        rows=list_rows(evaluation),
        means=list_means(evaluation),
        benchmark=words.say_benchmark(run),
        elsewhere=words.say_elsewhere(run),
        figures=figures,
        errors=cards,
        errors_caption=f"{_say_chosen(test.kind)} {SALIENCY}" if wrong else "No image was called wrongly.",
        errors_remark=remark if wrong else "",
        commands=words.list_commands(run),
        again_caption="Below the folder that holds runs/, with the data where they lay, or with --data-root.",
        environment=words.say_environment(run),
        versions=words.say_versions(run),
        settings=words.say_settings(run),
        digests=words.say_digests(run),
        footer=f"Made by genmed {run.environment['packages']['genmed']} from the record of {run.document.name}."
        " Research use; not a medical device.",
    )


SALIENCY = (
    "Beside each, what raised the score: Grad-CAM of the last map of convolutions (Selvaraju et al. 2017), scaled"
    " within the image; without colour where nothing raised it."
)


def _say_chosen(kind: TaskKind) -> str:
    """Which errors are shown."""
    if kind in EXCLUSIVE:
        return "Test images whose highest score is another class's than the true one, the surest first."
    return "Test images that were ranked furthest on the wrong side of the threshold, class by class."


def make_cards(run: Gathered, wrong: list[WrongCall], pictures: Pictures) -> tuple[list[Card], str]:
    """And why there are no pictures, or no saliency; '' where there are."""
    ids = [run.test.ids[entry.row] for entry in wrong]
    found = pictures.take(ids, [entry.column for entry in wrong]) if wrong else NoPictures("")
    cards = []
    for number, entry in enumerate(wrong):
        image, heat = (None, None) if isinstance(found, NoPictures) else embed(found.pictures[number])
        labels = [run.test.classes[at] for at in np.flatnonzero(run.test.truth[entry.row] == 1)]
        cards.append(
            Card(
                name=entry.name,
                score=show(entry.score),
                kind=say_error(entry),
                file=ids[number],
                labels=", ".join(labels) or "none of the classes",
                image=image,
                heat=heat,
            )
        )
    return cards, found.why


def say_error(entry: WrongCall) -> str:
    """`false negative, threshold 0.186`."""
    return entry.kind if entry.threshold is None else f"{entry.kind}, threshold {show(entry.threshold)}"
