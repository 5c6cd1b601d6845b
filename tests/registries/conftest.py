"""No test touches the registry of the person who runs it."""

import pytest


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENMED_REGISTRY", raising=False)
