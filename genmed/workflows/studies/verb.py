"""study: from a plan, or from a study on record, to its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genmed.ground.errors import Interrupted
from genmed.records.study_folder import StudyDocument, StudyFolder
from genmed.workflows.reporting import Reporter
from genmed.workflows.studies.conduct import Watcher, conduct
from genmed.workflows.studies.describe import describe_study
from genmed.workflows.studies.plan import Plan
from genmed.workflows.studies.prepare import prepare, renew, tell_changes
from genmed.workflows.studies.results import keep_results


def study(
    plan: Plan, root: Path, reporter: Reporter, watcher: Watcher, *, jobs: int = 1, retry_failed: bool = False
) -> dict[str, Any]:
    """Trains what is not done of the plan, compares, and describes it, with the keys of `genmed study --json`.

    Raises RequestError before anything is written (but the image cache), Interrupted after all states are safe.
    """
    folder, document = prepare(plan, root, reporter)
    before = folder.read() if folder.document_path.is_file() else None
    return _go_on(folder, before, document, root, reporter, watcher, jobs, retry_failed)


def resume_study(
    folder: StudyFolder,
    before: StudyDocument,
    root: Path,
    reporter: Reporter,
    watcher: Watcher,
    *,
    jobs: int = 1,
    retry_failed: bool = False,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """The same for a study on record. data_root: where the data lie now, if they moved."""
    document = renew(before, root, reporter, data_root)
    return _go_on(folder, before, document, root, reporter, watcher, jobs, retry_failed)


def _go_on(
    folder: StudyFolder,
    before: StudyDocument | None,
    document: StudyDocument,
    root: Path,
    reporter: Reporter,
    watcher: Watcher,
    jobs: int,
    retry_failed: bool,
) -> dict[str, Any]:
    with folder.alone():
        for line in tell_changes(before, document) if before else []:
            reporter.message(line)
        if document != before:
            folder.write(document)
        failed = conduct(folder, document, root, watcher, jobs=jobs, retry_failed=retry_failed)
        try:
            described, results = describe_study(folder, document, root, failed=failed)
        except KeyboardInterrupt:
            hint = f"all runs are done; see them with: genmed study show {folder.name}"
            raise Interrupted("broken off while results were computed", hint) from None
        if results["cells"]:
            keep_results(folder, results)
        return described
