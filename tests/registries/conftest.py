"""No test touches the registry of the person who runs it."""

import pytest

from tests.registries.postgresql import Server


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENMED_REGISTRY", raising=False)


@pytest.fixture
def url(postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an empty registry on a server, which is the one in use."""
    url = postgresql.make_registry()
    monkeypatch.setenv("GENMED_REGISTRY", url)
    return url
