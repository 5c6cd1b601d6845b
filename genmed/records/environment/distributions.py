"""The installed distributions: which of them this process has imported, and which modules belong to none of them."""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlparse

FOLDER = "folder"
"""The source of a distribution whose code changes under one version: installed from a folder, editable or not."""
INDEX = "index"
TOP_LEVEL = re.compile(r"^([^/,\n]+)(?=[/,])", re.MULTILINE)
VERSION = re.compile(r"^Version: *(.*)$", re.MULTILINE)
NAME = re.compile(r"^Name: *(.*)$", re.MULTILINE)
SITES = ("site-packages", "dist-packages")
GENERATED = re.compile(r"/torchinductor_[^/]*/|/\.triton/")
"""In the path of a module that `torch.compile` generated: it follows from the user's code and from torch's version."""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution, from its metadata."""

    name: str
    """Normalised as PEP 503 says."""
    version: str
    source: str
    """`index`, `folder`, `git <commit>` or `archive <digest>`: PEP 610's direct_url.json, in a word."""
    site: str
    """The folder that it is installed in, with a slash at its end."""
    project: str
    """The folder that it was installed from, with a slash at its end; empty if it was not."""
    record: str
    """The text of RECORD, which lists its files; empty where there is none."""
    modules: frozenset[str]
    """Top-level names that it installs."""

    def owns(self, file: str) -> bool:
        """Whether the distribution installed the file."""
        inside = file[len(self.site) :] if file.startswith(self.site) else ""
        if self.record:
            return bool(inside) and f"\n{inside}," in f"\n{self.record}"
        return re.split(r"[/.]", inside)[0] in self.modules


def list_distributions() -> tuple[Distribution, ...]:
    """All that the import path has, the first of each name; 30 ms for a hundred, once for each import path."""
    return _list_distributions(tuple(sys.path))


@lru_cache(maxsize=2)
def _list_distributions(path: tuple[str, ...]) -> tuple[Distribution, ...]:
    from importlib.metadata import distributions

    found: dict[str, Distribution] = {}
    for entry in distributions():
        metadata = entry.read_text("METADATA") or entry.read_text("PKG-INFO") or ""
        name, version = NAME.search(metadata), VERSION.search(metadata)
        if name and version:
            normal = normalise(name[1].strip())
            site = f"{entry.locate_file('')}".rstrip("/") + "/"
            if _is_vendored(site):
                continue
            record = entry.read_text("RECORD") or ""
            listed = entry.read_text("top_level.txt")
            modules = TOP_LEVEL.findall(record) if record else (listed or normal.replace("-", "_")).split()
            source, project = _find_source(entry.read_text("direct_url.json"))
            if not record and not site.rstrip("/").endswith(SITES):  # a source tree that was once built or developed
                source, project = FOLDER, site
            bare = frozenset(module.partition(".")[0] for module in modules)
            found.setdefault(normal, Distribution(normal, version[1].strip(), source, site, project, record, bare))
    return tuple(found.values())


def _is_vendored(site: str) -> bool:
    """Whether a folder lies in an installed package, as setuptools' copies of others do: they belong to it."""
    parts = Path(site).parts
    return parts[-1] not in SITES and any(part in SITES for part in parts)


def normalise(name: str) -> str:
    """`PyYAML` -> `pyyaml`, `typing_extensions` -> `typing-extensions`. PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _find_source(direct_url: str | None) -> tuple[str, str]:
    """The source, and the folder that the distribution was installed from. PEP 610."""
    if not direct_url:
        return INDEX, ""
    try:
        told: dict[str, Any] = json.loads(direct_url)
        if "dir_info" in told:
            return FOLDER, unquote(urlparse(told["url"]).path).rstrip("/") + "/"
        if "vcs_info" in told:
            return f"{told['vcs_info']['vcs']} {told['vcs_info']['commit_id']}", ""
        hashes = told["archive_info"].get("hashes") or {}
        return " ".join(["archive", *(f"{name}:{value}" for name, value in sorted(hashes.items())[:1])]), ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unknown", ""


def find_imported() -> dict[str, Distribution]:
    """The distributions that this process has imported a module of, by name, in alphabetical order."""
    sorted_out = _sort_out(sys.modules)
    return {entry.name: entry for entry in sorted(sorted_out.imported, key=lambda entry: entry.name)}


def find_foreign_modules(names: Collection[str]) -> dict[str, Path]:
    """Which of these imported modules belong to no installed distribution, each with its file.

    Those of a distribution that was installed from a folder count as well: its code changes under one version. Left
    out are Python's own modules, genmed's, and what a library generates (`torch.compile`).
    """
    return _sort_out({name: sys.modules[name] for name in names if name in sys.modules}).foreign


@dataclass(frozen=True)
class _Sorted:
    """Modules by where they come from."""

    imported: set[Distribution]
    foreign: dict[str, Path]


def _sort_out(modules: Mapping[str, ModuleType]) -> _Sorted:
    claims: dict[str, list[Distribution]] = {}
    for entry in list_distributions():
        for top in entry.modules:
            claims.setdefault(entry.site + top, []).append(entry)
    sites = sorted({entry.site for entry in list_distributions()}, key=len, reverse=True)  # one may lie in another
    projects = [entry for entry in list_distributions() if entry.project]
    found = _Sorted(set(), {})
    for name, module in list(modules.items()):
        file, top = _find_file(module), name.partition(".")[0]
        if not file or top in ("__main__", "__mp_main__") or _is_of_python(file) or _is_generated(file):
            continue
        owner = _find_owner(file, sites, claims) or _find_owner(_find_file(sys.modules.get(top)), sites, claims)
        if owner:
            found.imported.add(owner)
        else:
            found.imported.update(entry for entry in projects if file.startswith(entry.project))
        if top != "genmed" and (owner is None or owner.source == FOLDER):
            found.foreign[name] = Path(file)
    return found


def _find_owner(file: str, sites: Sequence[str], claims: Mapping[str, Sequence[Distribution]]) -> Distribution | None:
    """The distribution that installed the file; by its top-level name alone where only one has that name."""
    for site in sites:
        if file.startswith(site):
            claiming = claims.get(site + re.split(r"[/.]", file[len(site) :], maxsplit=1)[0], ())
            if claiming:
                return next((entry for entry in claiming if len(claiming) == 1 or entry.owns(file)), None)
    return None


def _find_file(module: ModuleType | None) -> str:
    """Empty for what has none: built-in modules, namespaces, what programs put there that is no module."""
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else ""


def _is_generated(file: str) -> bool:
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return bool(GENERATED.search(file)) or bool(cache and file.startswith(cache))


@lru_cache(maxsize=1)
def _find_standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name].rstrip("/") + "/" for name in ("stdlib", "platstdlib")})


def _is_of_python(file: str) -> bool:
    inside = next((file[len(root) :] for root in _find_standard_library() if file.startswith(root)), "")
    return bool(inside) and not inside.startswith(SITES)
