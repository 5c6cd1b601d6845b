"""genmed rm"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.completion import complete_run
from genmed.cli.options import Debug, Json, Root, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.workflows.removal import Doomed


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="As elsewhere; repeatable.", autocompletion=complete_run, show_default=False
        ),
    ],
    restore: Annotated[bool, typer.Option("--restore", help="Bring hidden runs back.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Remove them for ever, folder and all.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --purge.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Hide runs: they stay, but on no list, and `latest` passes over them."""
    from genmed.cli.output import print_json

    if restore and purge:
        raise RequestError("--restore and --purge contradict each other", "give one of them")
    if yes and not purge:
        raise RequestError("--yes goes with --purge: nothing else asks", "leave it out")
    place = root_folder(root)
    done, names = _purge(runs, place, yes) if purge else _hide(runs, place, not restore)
    if json:
        print_json([{"schema": 1, "run": name, "done": done} for name in names])
        return
    for name in names:
        print(f"{name}\t{done}")


def _hide(references: Sequence[str], place: Path, hidden: bool) -> tuple[str, list[str]]:
    from genmed.cli.screen import Plain
    from genmed.workflows.known import find_run
    from genmed.workflows.marking import set_hidden

    folders = {folder.path: folder for folder in [find_run(reference, place) for reference in references]}
    names = [set_hidden(folder, place, hidden, Plain()).name for folder in folders.values()]
    return "hidden" if hidden else "restored", names


def _purge(references: Sequence[str], place: Path, yes: bool) -> tuple[str, list[str]]:
    from genmed.cli.output import print_line
    from genmed.workflows.removal import find_doomed, purge

    doomed = find_doomed(references, place)
    for run in doomed:
        print_line(f"{run.name}: {run.size / 2**20:,.1f} MiB in {run.folder.path}")
        if run.children:
            print_line(f"{', '.join(run.children)} continued from it; that goes on without it")
    if not yes and not _ask(doomed):
        return "kept", [run.name for run in doomed]
    for run in doomed:
        purge(run, place)
    return "purged", [run.name for run in doomed]


def _ask(doomed: Sequence["Doomed"]) -> bool:
    what = doomed[0].name if len(doomed) == 1 else f"these {len(doomed)} runs"
    if not sys.stdin.isatty():
        raise RequestError(f"--purge would remove {what} for ever, and nobody can be asked here", "say --yes")
    return typer.confirm(f"Remove {what} for ever?", err=True)
