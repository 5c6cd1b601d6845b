"""genmed data cache"""

from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import Debug, Json
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.workflows.inspection.image_cache import CacheState


def command(
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="So much it may take from now on: 20GB, 512MiB, bytes, or none; what was used longest ago is removed.",
            show_default=False,
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that is not in use.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the image cache, limit it, or clear it; what a running training reads stays."""
    from genmed.cli.output import print_json
    from genmed.workflows.inspection.image_cache import mind_cache

    if limit is not None and clear:
        raise RequestError("--limit and --clear exclude each other", "set the limit, then clear")
    state = mind_cache(limit, empty=clear)
    print_json(state.to_json()) if json else _print_cache(state)


def _print_cache(state: "CacheState") -> None:
    from datetime import datetime

    from genmed.cli.output import print_table, show_truth
    from genmed.cli.results import print_pairs
    from genmed.workflows.inspection.image_cache import show_size

    rows = [
        [
            stored.folder.name[:8],
            stored.what,
            show_size(stored.size),
            f"{datetime.fromtimestamp(stored.used).astimezone():%Y-%m-%d %H:%M}",
            show_truth(used),
        ]
        for stored, used in state.entries
    ]
    if rows:
        print_table(["entry", "images", "size", "last used", "in use"], rows, numbers=["size"])
    print_pairs(
        [
            ("folder", str(state.folder)),
            ("entries", str(len(rows))),
            ("total", show_size(state.size)),
            ("limit", "none" if state.limit is None else show_size(state.limit)),
            *(("removed", f"{stored.what}: {show_size(stored.size)}") for stored in state.removed),
        ]
    )
