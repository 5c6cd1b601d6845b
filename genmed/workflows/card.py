"""card: a finished run's documents as a model card."""

from genmed.parts.report.card import Documents, write_card
from genmed.records.config.sections import flatten
from genmed.records.run_folder import RunFolder
from genmed.workflows.evaluation.over_seeds import add_seeds
from genmed.workflows.report.gathering import gather
from genmed.workflows.report.words import say_verdict


def make_card(folder: RunFolder) -> str:
    """Markdown. Raises RequestError where the run is not complete, RecordError where its record is damaged."""
    run = gather(folder)
    verdict = say_verdict(run.verification, folder.name)
    return write_card(
        Documents(
            run=run.document.model_dump(mode="json"),
            config=flatten(run.config),
            data=run.data,
            environment=run.environment,
            evaluations=[run.evaluation, *(add_seeds(folder, found) for found in run.elsewhere)],
            verdict=f"{verdict.word}. {verdict.says} {f'`{verdict.command}`' if verdict.command else ''}".strip(),
        )
    )
