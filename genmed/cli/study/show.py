"""genmed study show"""

from typing import Annotated

import typer

from genmed.cli.options import Debug, Json, Root, root_folder
from genmed.cli.study.options import Metric, complete_study

OptionalReference = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="Name, id, any unique beginning of the name; the latest.",
        autocompletion=complete_study,
        show_default=False,
    ),
]


def command(
    study: OptionalReference = None,
    metric: Metric = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what came of a study: each model's mean over seeds, models compared, predictions that flip."""
    from genmed.cli.output import print_json, print_line
    from genmed.cli.study.printing import print_study
    from genmed.records.study_folder import list_study_folders

    place = root_folder(root)
    if study is None and not list_study_folders(place):
        print_json(None) if json else print_line("no studies here yet; `genmed study --seeds 5` makes the first")
        return
    from genmed.workflows.studies.describe import describe_study
    from genmed.workflows.studies.listing import find_study

    described, _ = describe_study(*find_study(study, place), place, metric)
    print_json(described) if json else print_study(described)
