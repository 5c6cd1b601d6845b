"""The datasets by name, with what each needs: without torch, and without any data."""

from typing import Any

from genmed.parts.data.datasets import DATASETS
from genmed.parts.data.records import DatasetFacts


def describe_datasets() -> list[dict[str, Any]]:
    """The built-in one first, then by name."""
    return [_describe(facts) for facts in DATASETS.values()]


def _describe(facts: DatasetFacts) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": facts.name,
        "title": facts.title,
        "task": facts.task,
        "needs": facts.needs,
        "licence": facts.licence,
        "citation": facts.citation,
        "classes": list(facts.classes),
        "counts": dict(facts.counts),
        "lineage": facts.lineage,
        "sources": list(facts.sources),
        "defaults": dict(facts.defaults),
        "default_root": facts.default_root,
    }
