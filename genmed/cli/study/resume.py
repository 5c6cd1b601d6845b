"""genmed study resume"""

from genmed.cli.options import DataRoot, Debug, Json, Root, root_folder
from genmed.cli.study.options import Jobs, RetryFailed, StudyReference
from genmed.cli.study.start import finish


def command(
    study: StudyReference,
    jobs: Jobs = 1,
    retry_failed: RetryFailed = False,
    data_root: DataRoot = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a study that was broken off; what is done stays, what was interrupted is resumed to the bit."""
    from genmed.cli.study.screen import open_study_screen
    from genmed.workflows.studies.listing import find_study

    place = root_folder(root)
    folder, document = find_study(study, place)
    with open_study_screen() as screen:
        from genmed.workflows.studies.verb import resume_study

        described = resume_study(
            folder, document, place, screen, screen, jobs=jobs, retry_failed=retry_failed, data_root=data_root
        )
    finish(described, json)
