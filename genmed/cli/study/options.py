"""Options that the commands of a study share."""

from typing import Annotated

import typer

from genmed.cli.options import root_folder


def complete_study(context: typer.Context, incomplete: str) -> list[str]:
    from genmed.records.study_folder import list_study_folders

    names = [folder.name for folder in list_study_folders(root_folder(context.params.get("root")))]
    return [name for name in ["latest", *names] if name.startswith(incomplete)]


StudyReference = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Name, id, any unique beginning of the name, or latest.",
        autocompletion=complete_study,
        show_default=False,
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Trainings beside each other; changes no bit.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also go on with runs that failed before.")]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="Of the test, by which models are compared; auroc_macro.", show_default=False),
]
