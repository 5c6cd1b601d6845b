"""The verbs for scripts and notebooks: `genmed.train(config)` and the like.

A strict run needs an interpreter that was started for it (hash seed, thread counts). Where this one was not, the verb
runs in a fresh process by the command line; the bits are the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmed.ground import errors
from genmed.ground.errors import GenmedError
from genmed.records.config import Config, write_document


def train(config: Config | Mapping[str, Any] | None = None, *, root: Path | str = ".") -> dict[str, Any]:
    """Trains a run and describes it, with the keys of `genmed train --json`.

    config: a Config, or values by dotted key, e.g. {"seed": 42, "training.epochs": 2}; GENMED_* variables and the
    dataset's defaults fill the rest. Raises GenmedError's children, see `genmed.ground.errors`.
    """
    from genmed.workflows.configure import configure

    if not isinstance(config, Config):
        config = configure(config).config
    with tempfile.TemporaryDirectory(prefix="genmed-config-") as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(write_document(config, {}))
        return _run("train", "--config", str(file), root=root)


def resume(
    run: str, *, root: Path | str = ".", epochs: int | None = None, accept: Sequence[str] = ()
) -> dict[str, Any]:
    """Goes on with a run that was broken off and describes it, with the keys of `genmed resume --json`.

    run: name, id, prefix of either, `latest` or `latest~N`. epochs: continue a finished run up to so many, as a new
    run. accept: what may differ from the record ("code", "environment", "data"). Raises GenmedError's children.
    """
    options = [] if epochs is None else ["--epochs", str(epochs)]
    return _run("resume", run, *options, *(f"--accept={part}" for part in accept), root=root)


def verify(run: str, *, root: Path | str = ".", full: bool = False) -> dict[str, Any]:
    """Runs a recorded run again and gives the verdict, with the keys of `genmed verify --json`.

    full: go on after the first difference. Raises GenmedError's children; a difference is a verdict, not an error.
    """
    return _run("verify", run, *(["--full"] if full else []), root=root)


def _run(*arguments: str, root: Path | str) -> dict[str, Any]:
    """One command in a fresh process; its messages go to this one's stderr."""
    command = [sys.executable, "-m", "genmed", *arguments, "--root", str(root), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise errors.RunError(f"`genmed {arguments[0]}` ended with exit code {done.returncode} and no answer") from None
    if "error" in answer:
        described = answer["error"]
        kind = getattr(errors, described["kind"], GenmedError)
        raise kind(described["message"], described["hint"])
    return answer
