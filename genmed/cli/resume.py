"""genmed resume"""

from genmed.cli.options import DataRoot, Debug, Json, Root, RunReference, root_folder


def command(
    run: RunReference, data_root: DataRoot = None, root: Root = None, json: Json = False, debug: Debug = False
) -> None:
    """Go on with a run that was broken off; it ends with the bits of a run left alone."""
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import describe_run, find_run

    folder = find_run(run, root_folder(root))
    document = folder.read()
    if document.status != "completed":
        restart(interpreter_variables(read_config(folder, document)))

    from genmed.cli.output import print_json
    from genmed.cli.results import print_results
    from genmed.cli.screen import open_screen
    from genmed.workflows.resume import resume

    with open_screen() as screen:
        described = describe_run(resume(folder, root_folder(root), screen, data_root))
    print_json(described) if json else print_results(described)
