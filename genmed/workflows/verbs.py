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


def verify(
    run: str,
    *,
    root: Path | str = ".",
    full: bool = False,
    segments: int | None = None,
    jobs: int = 1,
    tolerance: float | None = None,
    data_root: Path | str | None = None,
) -> dict[str, Any]:
    """Runs a recorded run again and gives the verdict, with the keys of `genmed verify --json`.

    run: as for `resume`, or a bundle. full: go on after the first difference. segments: so many at random, not the
    whole run. jobs: processes beside each other. tolerance: how near to the recorded ones metrics are consistent.
    data_root: where the data lie now. Raises GenmedError's children; a difference is a verdict, not an error.
    """
    given = {"--segments": segments, "--jobs": jobs, "--tolerance": tolerance, "--data-root": data_root}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    return _run("verify", run, *(["--full"] if full else []), *options, root=root)


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
