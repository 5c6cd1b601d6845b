"""The architecture: imports only ever point down, and the public names stay."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import genmed

PACKAGE = Path(genmed.__file__).parent
LAYERS = ["ground", "records", "parts", "engine", "workflows", "cli"]
"""From the bottom up; `genmed.seed` belongs to the ground."""
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def layer_of(module: str) -> int:
    """Position in LAYERS of `genmed.<layer>...`."""
    name = module.split(".")[1] if "." in module else module
    return LAYERS.index("ground" if name == "seed" else name)


def test_whatever_is_imported_is_asked_for_in_the_project_s_file() -> None:
    """A package that only tests need would be missing where genmed is installed."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    asked = {re.match(r"[A-Za-z0-9_.-]+", name)[0].lower() for name in project["dependencies"] + extras}
    brought = packages_distributions()
    imported = set().union(*(list_top_modules(PACKAGE / source) for source in SOURCES))
    others = imported - sys.stdlib_module_names - {"genmed", "pydantic_core"}  # which pydantic pins and hands on
    assert {name for name in others if not asked & {found.lower() for found in brought.get(name, [name])}} == set()


def list_top_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


def list_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("genmed."):
            found.add(node.module)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("genmed.")}
    return found


@pytest.mark.parametrize("source", [name for name in SOURCES if "/" in name or name == "seed.py"])
def test_imports_point_down(source: str) -> None:
    own = layer_of("genmed." + source.removesuffix(".py").replace("/", "."))
    above = [name for name in list_imports(PACKAGE / source) if layer_of(name) > own]
    assert not above


def test_top_level_of_the_package_holds_the_layers_and_the_seeds() -> None:
    names = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert names == {*LAYERS, "__init__.py", "__main__.py", "seed.py", "py.typed"}


def test_public_names_stay() -> None:
    assert sorted(genmed.__all__) == ["Config", "__version__", "resume", "train", "verify"]
    assert all(getattr(genmed, name) for name in genmed.__all__)


@pytest.mark.parametrize("module", ["genmed", "genmed.cli.app", "genmed.records.config", "genmed.workflows.configure"])
def test_import_brings_no_heavy_library(module: str) -> None:
    heavy = "('torch', 'torchvision', 'sklearn', 'sqlmodel', 'alembic', 'matplotlib')"
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
