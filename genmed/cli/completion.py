"""What a shell offers at a tab: quick, from what the registry holds; nothing is written, no error is shown."""

from collections.abc import Iterable

import typer

from genmed.cli.place import root_folder
from genmed.records.glance import glance_at, glance_at_names, glance_at_tags


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """`latest` and the names of runs; the hidden ones where these are restored."""
    asked = context.params
    restored = bool(asked.get("restore"))
    names = glance_at_names(root_folder(asked.get("root")), hidden=restored)
    offered = [] if restored else ["latest"]
    return _begin_so([*offered, *(name for name, _ in names)], incomplete) or _begin_so(
        (run_id for _, run_id in names), incomplete
    )


def complete_tag(context: typer.Context, incomplete: str) -> list[str]:
    """Those of one word: another needs quotes, which a shell does not set by itself."""
    tags = glance_at_tags(root_folder(context.params.get("root")))
    return _begin_so((tag for tag in tags if len(tag.split()) == 1), incomplete)


def complete_listed_dataset(context: typer.Context, incomplete: str) -> list[str]:
    return _begin_so(glance_at(root_folder(context.params.get("root")), "dataset"), incomplete)


def complete_listed_model(context: typer.Context, incomplete: str) -> list[str]:
    return _begin_so(glance_at(root_folder(context.params.get("root")), "model"), incomplete)


def complete_dataset(incomplete: str) -> list[str]:
    """Those that genmed knows."""
    from genmed.parts.data.datasets import DATASETS

    return _begin_so(DATASETS, incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Those that genmed and torchvision have."""
    from genmed.parts.models.table import list_models

    return _begin_so(list_models(), incomplete)


def _begin_so(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
