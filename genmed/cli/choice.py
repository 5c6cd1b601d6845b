"""Options by which commands choose among the runs."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.completion import complete_listed_dataset, complete_listed_model, complete_tag

if TYPE_CHECKING:
    from genmed.workflows.listing import Choice


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Runs with this tag; repeatable: with all of them.",
        autocompletion=complete_tag,
        show_default=False,
    ),
]
Status = Annotated[RunStatus | None, typer.Option(help="Runs that stand so.", show_default=False)]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Runs on this dataset.", autocompletion=complete_listed_dataset, show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Runs of this model.", autocompletion=complete_listed_model, show_default=False),
]
Hidden = Annotated[bool, typer.Option("--hidden", help="The runs that `genmed rm` hid, and no others.")]


def choose(
    tags: Sequence[str] | None, status: RunStatus | None, dataset: str | None, model: str | None, hidden: bool
) -> "Choice":
    """The options as one value."""
    from genmed.workflows.listing import Choice

    return Choice(tuple(tags or ()), status and status.value, dataset, model, hidden)
