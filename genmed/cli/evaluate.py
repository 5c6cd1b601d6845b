"""genmed evaluate"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from genmed.cli.data.options import complete_dataset
from genmed.cli.options import DataRoot, Debug, Json, Root, RunReference, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.records.run_folder import RunFolder
    from genmed.workflows.evaluation.elsewhere import Elsewhere


def command(
    run: RunReference,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Other data than the run's own test, as of `genmed train`.",
            autocompletion=complete_dataset,
            show_default=False,
        ),
    ] = None,
    data_root: DataRoot = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE",
            help="train, val, test or all of these data; their official test if they have one, else all.",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'RUN CLASS=DATA CLASS'", help="Two names of one finding; repeatable.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A key of data, labels or manifest; repeatable.", show_default=False
        ),
    ] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a finished run on its own test, or on other data: each metric with its interval over patients."""
    from genmed.cli.evaluation import print_evaluation
    from genmed.cli.output import print_json
    from genmed.cli.screen import Plain
    from genmed.workflows.configure import check_device
    from genmed.workflows.evaluation.kept import evaluate_own
    from genmed.workflows.evaluation.over_seeds import add_seeds
    from genmed.workflows.overview import find_run

    check_device(device)
    folder = find_run(run, root_folder(root))
    if any((dataset, data_root, split, match, settings)):
        from genmed.workflows.evaluation.elsewhere import Elsewhere

        pairs = dict(_split_pair(pair) for pair in match or ())
        asked = Elsewhere(dataset, data_root, split, pairs, tuple(settings or ()), device)
        evaluation = _evaluate_elsewhere(folder, asked)
    else:
        evaluation = evaluate_own(folder, Plain())
    evaluation = add_seeds(folder, evaluation)
    print_json(evaluation) if json else print_evaluation(evaluation)


def _split_pair(pair: str) -> tuple[str, str]:
    ours, equals, theirs = pair.partition("=")
    if not (ours and equals and theirs):
        raise RequestError(f"--match takes two names, got {pair!r}", "for example --match 'Effusion=Pleural Effusion'")
    return ours.strip(), theirs.strip()


def _evaluate_elsewhere(folder: "RunFolder", asked: "Elsewhere") -> dict[str, Any]:
    from genmed.cli.screen import open_screen
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.evaluation.elsewhere import check_request, evaluate_elsewhere
    from genmed.workflows.identity import read_config

    check_request(asked)
    restart(interpreter_variables(read_config(folder, folder.read())))
    with open_screen() as screen:
        return evaluate_elsewhere(folder, asked, screen)
