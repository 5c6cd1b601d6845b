"""genmed resume"""

from enum import StrEnum
from typing import Annotated

import typer

from genmed.cli.options import DataRoot, Debug, Json, Processes, Root, RunReference, root_folder


class Part(StrEnum):
    """What may differ from the record."""

    CODE = "code"
    ENVIRONMENT = "environment"
    DATA = "data"


Accept = Annotated[
    list[Part] | None,
    typer.Option(
        metavar="PART",
        help="Go on though code, environment or data are not as recorded; marks the run for ever. Repeatable.",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Continue a finished run up to N epochs, as a new run linked to it.", show_default=False
    ),
]


def command(
    run: RunReference,
    epochs: Epochs = None,
    accept: Accept = None,
    data_root: DataRoot = None,
    processes: Processes = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard from here on.")
    ] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that was broken off; it ends with the bits of a run left alone."""
    from genmed.cli.output import print_json, print_line
    from genmed.ground.interpreter import restart
    from genmed.ground.team import speaks
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.launch import choose_processes, launch
    from genmed.workflows.mending import mend_document
    from genmed.workflows.overview import describe_run, find_run

    folder = find_run(run, root_folder(root))
    for line in mend_document(folder, root_folder(root)) if speaks() else []:
        print_line(line)
    document = folder.read()
    if epochs is not None or document.status != "completed":
        config = choose_processes(read_config(folder, document), processes)
        launch(config)
        restart(interpreter_variables(config), beside=config.compute.processes > 1)

    from genmed.cli.results import print_next_steps, print_results
    from genmed.cli.screen import open_screen
    from genmed.workflows.extend import extend
    from genmed.workflows.resume import resume

    place, parts = root_folder(root), accept or ()
    with open_screen() as screen:
        if epochs is None:
            folder = resume(folder, place, screen, data_root=data_root, accept=parts, tensorboard=tensorboard)
        else:
            folder = extend(folder, place, screen, epochs, data_root=data_root, accept=parts, tensorboard=tensorboard)
        described = describe_run(folder)
    if json:
        print_json(described)
    else:
        print_results(described)
        print_next_steps(described, place)
