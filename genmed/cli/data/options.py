"""Options that the data commands share."""

from pathlib import Path
from typing import Annotated

import typer

from genmed.cli.completion import complete_dataset as complete_dataset

DataPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        help="Folder that the dataset lies in; data/<dataset> unless given; phantom needs none.",
        show_default=False,
    ),
]


Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="One that `genmed data list` names, or file.py:FACTS of your own; phantom unless given.",
        autocompletion=complete_dataset,
        show_default=False,
    ),
]
OnBadImage = Annotated[
    str | None,
    typer.Option(
        "--on-bad-image", metavar="stop|skip", help="Stop, or leave out what cannot be read.", show_default=False
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config; repeatable.", show_default=False),
]
