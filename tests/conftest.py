"""Fixtures: real genmed processes, a small dataset in NIH's layout, a database server."""

import shutil
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness import TINY_MODEL, Genmed, start_server
from tests.make_nih import make_nih
from tests.registries.postgresql import MissingServerError, Server

LONGEST = (
    "test_hosts.py test_docs.py test_ends.py test_study.py test_segments.py test_report.py test_cli.py"
    " test_resume_after_power_cut.py test_equal_bits.py test_seeds.py test_golden.py"
).split()
"""Files that take longest for the number of their tests: last, one would keep a core from its end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def spare_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The image cache of tests that name none: never that of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENMED_CACHE", str(tmp_path_factory.mktemp("spare-cache")))
        yield


@pytest.fixture(scope="session")
def server() -> ForkServerContext:
    return start_server()


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image cache for all tests that do not look at the cache itself."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def genmed(server: ForkServerContext, image_cache: Path, tmp_path: Path) -> Genmed:
    """genmed with an empty root of its own."""
    return Genmed(server, tmp_path, image_cache)


@pytest.fixture(scope="session")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 images of 40 patients in NIH's layout; read only."""
    return make_nih(tmp_path_factory.mktemp("nih"))


@pytest.fixture(scope="session")
def heavy(nih: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with some large images, so that decoding takes a second or two; read only."""
    copy = Path(shutil.copytree(nih, tmp_path_factory.mktemp("heavy") / "data"))
    random = np.random.Generator(np.random.Philox(1))
    for path in sorted((copy / "images").iterdir())[::6]:
        Image.fromarray(random.integers(0, 256, (2400, 2400), dtype=np.uint8)).save(path, compress_level=1)
    return copy


@pytest.fixture(scope="session")
def tiny(nih: Path) -> Callable[..., list[object]]:
    """Arguments of a training of a second: the tiny model on `nih`, 4 epochs of 6 steps."""

    def arguments(*more: object, command: str = "train") -> list[object]:
        data = ["--dataset", "nih", "--data-root", nih, "--image-size", "16"]
        return [command, *data, "--model", TINY_MODEL, "--epochs", "4", "--batch-size", "8", "--json", *more]

    return arguments


@pytest.fixture(scope="session")
def once_trained(
    server: ForkServerContext,
    image_cache: Path,
    tiny: Callable[..., list[object]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Genmed:
    """genmed with one finished tiny run, to be copied."""
    prepared = Genmed(server, tmp_path_factory.mktemp("once"), image_cache)
    result = prepared(*tiny())
    assert result.code == 0, result.err
    return prepared


@pytest.fixture(scope="module")
def trained(once_trained: Genmed, tmp_path_factory: pytest.TempPathFactory) -> Genmed:
    """genmed with one finished tiny run, for tests that only read it."""
    return once_trained.copied_to(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def finished(trained: Genmed, tmp_path: Path) -> Genmed:
    """genmed with a copy of the finished tiny run, to be spoilt."""
    return trained.copied_to(tmp_path)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server for all tests of a worker that use one; each makes a database of its own there."""
    pytest.importorskip("psycopg", reason="no package psycopg, which `pip install 'genmed[postgres]'` brings")
    try:
        server = Server()
    except MissingServerError as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where registries are kept: in the root's file, or, one after the other, in an empty one on a server."""
    kind = str(request.param)
    monkeypatch.delenv("GENMED_REGISTRY", raising=False)
    if kind == "postgresql":
        monkeypatch.setenv("GENMED_REGISTRY", request.getfixturevalue("postgresql").make_registry())
    return kind


@pytest.fixture(params=["sqlite", "postgresql"])
def blank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `database`, where there is no registry yet."""
    kind = str(request.param)
    monkeypatch.delenv("GENMED_REGISTRY", raising=False)
    if kind == "postgresql":
        monkeypatch.setenv("GENMED_REGISTRY", request.getfixturevalue("postgresql").make_blank())
    return kind


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real radiographs and tables, where a developer has them beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no folder ../shared/data with real radiographs")
    return SHARED
