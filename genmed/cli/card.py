"""genmed card"""

from pathlib import Path
from typing import Annotated

import typer

from genmed.cli.options import Debug, Json, Root, RunReference, root_folder


def command(
    run: RunReference,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Write it there; none is overwritten.", show_default=False),
    ] = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model card of a finished run: Markdown, with what only its authors can say left to them."""
    from genmed.cli.output import print_json
    from genmed.ground.files import write_text
    from genmed.workflows.card import make_card
    from genmed.workflows.overview import find_run
    from genmed.workflows.places import check_place

    if out:
        check_place(out, "--out", ".md")
    card = make_card(find_run(run, root_folder(root)))
    if out:
        write_text(out, card)
    if json:
        print_json({"schema": 1, "file": str(out) if out else None, "card": card})
    elif not out:
        print(card, end="")
