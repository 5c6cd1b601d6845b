"""What git says of the code: commit, branch, and what was changed since."""

import os
import subprocess
from pathlib import Path
from typing import Any

from genmed.records.environment.code import PACKAGE
from genmed.records.environment.machine import NOT_TOLD, SLOW

MAX_DIFF = 2**20
# a hook's variables would name its repository for every folder; status must not take the index's lock from others
LEFT_OUT = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}


def describe_repository(package: Path = PACKAGE) -> dict[str, Any] | None:
    """Of the repository that tracks the genmed package, else of the current folder; None without either, or git.

    `commit` is null before the first one. `dirty`: a tracked file differs from HEAD. `diff`: those differences, at most
    1 MiB of them, then `diff_truncated`; null if there are none. Files that git does not track are not looked at: a
    folder of data would take minutes, and `digest_code` covers the code.
    """
    folder = package if _run_git(package, "ls-files", "--error-unmatch", "__init__.py") is not None else Path.cwd()
    status = _run_git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    lines = status.decode(errors="replace").splitlines()
    headers = dict(line.removeprefix("# ").split(" ", 1) for line in lines if line.startswith("# "))
    commit = None if headers["branch.oid"] == "(initial)" else headers["branch.oid"]
    dirty = any(not line.startswith("#") for line in lines)
    diff = _read_diff(folder) if dirty and commit else None
    return {
        "commit": commit,
        "branch": None if headers["branch.head"] == "(detached)" else headers["branch.head"],
        "dirty": dirty,
        "diff": None if diff is None else diff[:MAX_DIFF].decode(errors="replace"),
        "diff_truncated": diff is not None and len(diff) > MAX_DIFF,
    }


def _start_git(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return subprocess.Popen(
        ["git", "-C", str(folder), *arguments],
        env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _run_git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it is absent, refuses, or takes over 20 s."""
    try:
        with _start_git(folder, *arguments) as git:
            try:
                output, _ = git.communicate(timeout=SLOW)
            except subprocess.TimeoutExpired:
                git.kill()
                return None
    except NOT_TOLD:
        return None
    return output if git.returncode == 0 else None


def _read_diff(folder: Path) -> bytes:
    """At most one byte more than the limit, of a diff that may be of any size."""
    arguments = ("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    with _start_git(folder, *arguments) as git:
        assert git.stdout is not None
        output = git.stdout.read(MAX_DIFF + 1)
        git.kill()
    return output
