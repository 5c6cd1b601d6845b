"""The page: what stands on it, and the one file that it becomes, which opens without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genmed.parts.metrics.names import METRIC_NAMES
from genmed.parts.report.figures import Figure
from genmed.parts.report.table import Cell

TEMPLATES = Path(__file__).parent / "templates"
BY_CLASS = ("roc", "precision-recall", "reliability", "decision", "scores")
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Headline:
    """A figure in large."""

    value: str
    name: str
    interval: str
    says: str = ""
    seeds: str = ""
    """Its spread over them."""


@dataclass(frozen=True)
class Verdict:
    """Of the last verification."""

    word: str
    tone: Literal["good", "bad", "open"]
    says: str
    command: str = ""
    """By which one is made."""


@dataclass(frozen=True)
class Card:
    """A wrong call, with its picture where there is one."""

    name: str
    kind: str
    score: str
    file: str
    labels: str
    image: str | None = None
    """`data:` address."""
    heat: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """The run's figures above those that were published for its dataset."""

    caption: str
    rows: Sequence[tuple[str, str, str]]
    """(what, AUC, accuracy)"""


@dataclass(frozen=True)
class RunPage:
    """All that stands in a run's report, in words."""

    title: str
    kicker: str
    level: str
    """Of the intervals."""
    headlines: Sequence[Headline]
    verdict: Verdict
    facts: Pairs
    notes: Sequence[str]
    training: Figure | None
    table_caption: str
    rows: Sequence[tuple[str, Sequence[Cell]]]
    means: Sequence[Cell]
    benchmark: Benchmark | None
    elsewhere: Sequence[tuple[str, str, str, str]]
    """(data, images, mean AUROC, mean average precision)"""
    figures: Sequence[Figure]
    errors: Sequence[Card]
    errors_caption: str
    errors_remark: str
    """Why there are no pictures, or no saliency; '' where there are."""
    commands: Pairs
    again_caption: str
    environment: Pairs
    versions: Pairs
    settings: Pairs
    digests: Pairs
    footer: str

    @property
    def contents(self) -> list[tuple[str, str]]:
        """(anchor, title) of each section."""
        drawn = [*([self.training] if self.training else []), *self.figures]
        named = [(figure.name, figure.title) for figure in drawn]
        first = named[: 1 if self.training else 0]
        last = [("errors", "Surest errors"), ("again", "Reproduce it"), ("environment", "Environment")]
        benchmark = [("benchmark", "Published")] if self.benchmark else []
        benchmark += [("elsewhere", "Other images")] if self.elsewhere else []
        return [("run", "Run"), *first, ("classes", "By class"), *benchmark, *named[len(first) :], *last]


@dataclass(frozen=True)
class ComparisonPage:
    """All that stands in a report on several runs."""

    title: str
    kicker: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    table_caption: str
    forest: Figure
    by_class: Figure | None
    runs: Pairs
    """Name of each, and what is left of it without the words that all names begin with."""
    settings: Sequence[tuple[str, Sequence[str]]]
    """Key, and its value in each run."""
    settings_caption: str
    notes: Sequence[str]
    footer: str

    @property
    def figures(self) -> list[Figure]:
        return [self.forest, *([self.by_class] if self.by_class else [])]


def render_run(page: RunPage) -> str:
    """One HTML file; equal pages give equal bytes."""
    return _render("run.html", page)


def draw_verdict(verdict: Verdict) -> Any:
    """The line of a run's page with the verdict: on one line, so that `replace_verdict` finds it."""
    from markupsafe import Markup

    command = Markup(" <code>{}</code>").format(verdict.command) if verdict.command else ""
    line = '<p class="verdict"><span class="badge {}">{}</span><span>{}{}</span></p>'
    return Markup(line).format(verdict.tone, verdict.word, " ".join(verdict.says.splitlines()), command)


def replace_verdict(page: str, verdict: Verdict) -> str | None:
    """A run's page with another verdict; all else stays. None where the page has no line for it."""
    line = re.compile(r'^<p class="verdict">.*</p>$', re.MULTILINE)
    if not line.search(page):
        return None
    return line.sub(lambda _: str(draw_verdict(verdict)), page, count=1)


def render_comparison(page: ComparisonPage) -> str:
    """One HTML file; equal pages give equal bytes."""
    return _render("comparison.html", page)


def _render(template: str, page: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from genmed.parts.report.svg import WIDE, draw_forest, draw_panel

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        script_digest=_digest(script),
        metric_names=list(METRIC_NAMES.values()),
        by_class=BY_CLASS,
        draw_panel=draw_panel,
        draw_verdict=draw_verdict,
        wide=WIDE,
        draw_forest=draw_forest,
    )


def _digest(script: str) -> str:
    """By which the page lets this script run, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
