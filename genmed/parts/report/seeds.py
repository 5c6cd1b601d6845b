"""The spread over seeds in words: beside intervals, which are of patients, and never in them."""

from __future__ import annotations

import shlex

from genmed.ground.wording import name_some
from genmed.parts.metrics.comparison import FEWEST_SEEDS
from genmed.parts.report.numbers import Document, name_metric, show

MOST_NAMED = 10
NO_OTHER_SEED = "no other seed is known that is finished, not hidden and below this root"


def find_spread(evaluation: Document, metric: str, name: str = "") -> Document | None:
    """Of a class, of `macro`, or of all classes where there is no name; None where nothing is known of other seeds."""
    if not evaluation["seeds"]:
        return None
    found: Document | None = evaluation["seeds"]["metrics"].get(name_metric(evaluation["split"], metric, name))
    return found if found and found["mean"] is not None else None


def show_spread(spread: Document | None, between: str = " ± ") -> str:
    """`0.952 ± 0.004`: mean and standard deviation; '' where nothing is known."""
    return f"{show(spread['mean'])}{between}{show(spread['sd'])}" if spread else ""


def show_range(spread: Document | None) -> str:
    """`0.947 to 0.957`; '' where nothing is known."""
    return f"{show(spread['lowest'])} to {show(spread['highest'])}" if spread else ""


def say_seeds(seeds: Document) -> str:
    """`3 seeds (1, 2, 3), which are few`."""
    number = len(seeds["seeds"])
    few = f", which are few: take {FEWEST_SEEDS} or more" if number < FEWEST_SEEDS else ""
    return f"{number} seeds ({name_some(list(map(str, seeds['seeds'])), MOST_NAMED)}){few}"


def say_no_seed(evaluation: Document) -> str:
    """Why nothing is said over seeds, and by which commands there would be something."""
    command = f"`{study_command(evaluation['run'])}`"
    if evaluation["own"]:
        return f"{NO_OTHER_SEED}: {command}"
    return f"{NO_OTHER_SEED}, and measured on these images: {command}, then `genmed evaluate` for each run"


def study_command(run: str) -> str:
    """By which other seeds of the run of that name are trained; below the folder that holds `runs/`."""
    return shlex.join(["genmed", "study", "--config", f"runs/{run}/config.yaml", "--seeds", str(FEWEST_SEEDS)])
