"""genmed study: takes the options of `genmed train`, and what makes a grid of them"""

import inspect
from typing import Annotated, Any

import typer

from genmed.cli import train
from genmed.cli.options import root_folder
from genmed.cli.study.options import Jobs, Metric, RetryFailed

HELP = "Train a grid of runs over several seeds, and compare models with intervals; the same command goes on with it."
PANEL = "Study"
Text = str | None


def _own(annotation: Any, help_text: str, flag: str, shown: str) -> Any:
    option = typer.Option(flag, help=help_text, metavar=shown, rich_help_panel=PANEL, show_default=False)
    return Annotated[annotation, option]


OWN: dict[str, tuple[Any, Any]] = {
    "seeds": (_own(Text, "How many, from --seed on, or a list: 5, or 1,7,9.", "--seeds", "N|A,B"), None),
    "models": (_own(Text, "Models to compare, between commas.", "--models", "A,B"), None),
    "grid": (_own(list[str] | None, "KEY=V1,V2 for any other key; repeatable.", "--grid", "KEY=V1,V2"), None),
    "study_name": (_own(str, "The study's name; else <dataset>-<id>.", "--name", "TEXT"), ""),
    "metric": (Metric, None),
    "jobs": (Jobs, 1),
    "retry_failed": (RetryFailed, False),
}
"""Parameter -> annotation and default."""
REPLACED = ("name",)
"""Of `genmed train`: a run of a study goes by its dataset, model and seed."""


def _begin(context: typer.Context, **given: Any) -> None:
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from genmed.cli.output import print_json
    from genmed.cli.study.screen import open_study_screen
    from genmed.ground.errors import ConfigError
    from genmed.workflows.studies.plan import make_plan

    if given["seeds"] is None:
        raise ConfigError("a study needs --seeds", "--seeds 5 trains each model with five seeds")
    flags = {flag: key for flag, key in train.FLAGS.items() if flag not in REPLACED}
    values = {key: given[flag] or None if flag in train.LEFT_OUT else given[flag] for flag, key in flags.items()}
    plan = make_plan(
        values,
        name=given["study_name"],
        metric=given["metric"] or "auroc_macro",
        seeds=given["seeds"],
        models=given["models"],
        grid=given["grid"] or (),
        file=given["config"],
        settings=given["settings"] or (),
        origins={key: f"--{flag.replace('_', '-')}" for flag, key in flags.items()},
    )
    if given["dry_run"]:
        from genmed.cli.study.printing import print_plan

        cells = [{"cell": cell.name, "settings": cell.settings} for cell in plan.cells]
        print_json({"schema": 1, "seeds": plan.seeds, "cells": cells}) if given["json"] else print_plan(plan)
        return
    with open_study_screen() as screen:
        from genmed.workflows.studies.verb import study

        root, retry = root_folder(given["root"]), given["retry_failed"]
        described = study(plan, root, screen, screen, jobs=given["jobs"], retry_failed=retry)
    finish(described, given["json"])


def finish(described: dict[str, Any], json: bool) -> None:
    """Prints what came of a study, and ends with 1 where a run failed."""
    from genmed.cli.output import print_json
    from genmed.cli.study.printing import print_study

    print_json(described) if json else print_study(described)
    if described["status"] != "completed":
        raise typer.Exit(1)


def _refuse_options(context: typer.Context) -> None:
    """Those of a beginning study, where an older one is shown or resumed: they would be lost without a word."""
    from genmed.ground.errors import RequestError

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        flag = "--" + given[0].replace("study_name", "name").replace("_", "-")
        raise RequestError(
            f"{flag} stands before `{context.invoked_subcommand}`, which does not take it",
            f"put options behind: genmed study {context.invoked_subcommand} ...",
        )


def command(context: typer.Context, **given: Any) -> None:
    _begin(context, **given)


def _take_options() -> None:
    """Gives `command` the options of `genmed train` and a study's own."""
    parameters = inspect.signature(train.command).parameters
    taken = [parameter for name, parameter in parameters.items() if name not in REPLACED]
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in OWN.items()
    ]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in taken]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY, annotation=typer.Context)
    signature = inspect.Signature([context, *own, *keywords])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: entry.annotation for name, entry in signature.parameters.items()}


_take_options()
