"""What a shell offers at a tab: quick, from what the registry holds; nothing is written, no error is shown."""

import io
import os
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout

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


@contextmanager
def words_whole() -> Iterator[None]:
    """Bash parts words at colons and completes what follows the last one alone: `medmnist:pn` is three words to it.
    What is asked meanwhile is asked of the whole word, and what is offered loses its beginning."""
    beginning = join_words(os.environ) if os.environ.get("_GENMED_COMPLETE") == "complete_bash" else ""
    if not beginning:
        yield
        return
    offered = io.StringIO()
    try:
        with redirect_stdout(offered):
            yield
    finally:
        print("\n".join(line.removeprefix(beginning) for line in offered.getvalue().splitlines()), flush=True)


def join_words(environ: MutableMapping[str, str]) -> str:
    """Makes COMP_WORDS, a word a line, and COMP_CWORD what they were if colons parted no words.

    Returns the word at the cursor up to its last colon; '' where it was not parted.
    """
    words, at = environ.get("COMP_WORDS", "").split("\n"), int(environ.get("COMP_CWORD", 0))
    joined: list[str] = []
    beginning, whole_at, open_ended = "", at, False
    for number, word in enumerate(words):
        colons = bool(word) and not word.strip(":")
        parted = bool(joined) and (colons or open_ended)
        if parted:
            joined[-1] += word
        else:
            joined.append(word)
        open_ended = colons
        if number == at:
            whole_at = len(joined) - 1
            beginning = joined[-1][: joined[-1].rindex(":") + 1] if parted else ""
    if len(joined) < len(words):
        environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(whole_at))
    return beginning


def _begin_so(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
