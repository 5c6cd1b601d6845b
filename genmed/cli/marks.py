"""genmed tag and genmed note"""

from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.completion import complete_tag
from genmed.cli.options import Debug, Json, Root, RunReference, root_folder

if TYPE_CHECKING:
    from genmed.records.run_folder import RunDocument


def tag(
    run: RunReference,
    tags: Annotated[
        list[str],
        typer.Argument(
            metavar="TAG...", help="Words to find the run by.", autocompletion=complete_tag, show_default=False
        ),
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Take these away from it.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Give a run tags, or take them away."""
    from genmed.cli.screen import Plain
    from genmed.workflows.known import find_run
    from genmed.workflows.marking import add_tags, remove_tags

    place = root_folder(root)
    change = remove_tags if remove else add_tags
    _show(change(find_run(run, place), place, tags, Plain()), json)


def note(
    run: RunReference,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Anything worth remembering; '' clears the note.")],
    append: Annotated[bool, typer.Option("--append", help="Add a line to the note that is there.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a note on a run, in place of the one that it has."""
    from genmed.cli.screen import Plain
    from genmed.workflows.known import find_run
    from genmed.workflows.marking import set_note

    place = root_folder(root)
    _show(set_note(find_run(run, place), place, text, append, Plain()), json)


def _show(document: "RunDocument", json: bool) -> None:
    from genmed.cli.output import print_json, show_note
    from genmed.cli.results import print_pairs

    tags = list(document.tags)
    if json:
        print_json({"schema": 1, "id": document.id, "name": document.name, "tags": tags, "note": document.note})
    else:
        print_pairs([("run", document.name), ("tags", ", ".join(tags) or "-"), ("note", show_note(document.note))])
