"""card: a finished run's documents as a model card."""

from genmed.ground.errors import RecordError
from genmed.ground.sealed import read_sealed
from genmed.parts.report.card import Documents, write_card
from genmed.records.config.sections import flatten
from genmed.records.run_folder import RunFolder
from genmed.workflows.evaluation.kept import OWN, own_results, read_evaluations
from genmed.workflows.identity import read_config


def make_card(folder: RunFolder) -> str:
    """Markdown. Raises RecordError where the run is not complete or its record is damaged."""
    document = folder.read()
    if document.status != "completed":
        raise RecordError(f"{document.name} is {document.true_status}", f"finish it with: genmed resume {document.id}")
    evaluations = {OWN: own_results(folder), **read_evaluations(folder)}
    return write_card(
        Documents(
            run=document.model_dump(mode="json"),
            config=flatten(read_config(folder, document)),
            data=read_sealed(folder.data_path),
            environment=read_sealed(folder.environment_path),
            evaluations=list(evaluations.values()),
            verdict=say_verdict(folder),
        )
    )


def say_verdict(folder: RunFolder) -> str:
    """`identical, 210 of 210 steps, 2026-11-23`; or that nobody has tried."""
    verifications = folder.read_verifications()
    if not verifications:
        return f"nobody has tried yet: genmed verify {folder.name.rpartition('-')[2]}"
    last = verifications[-1]
    return f"{last['verdict']}, {last['steps_compared']:,} of {last['steps_total']:,} steps, {last['created'][:10]}"
