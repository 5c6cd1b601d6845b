"""A disk that runs full: the training stops and says so, nothing that was whole is lost, room brings the same bits."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from genmed.engine.checkpoint import check_checkpoint, list_checkpoints
from genmed.records.registry import open_registry
from tests.harness import Genmed
from tests.resuming.runs import Arguments, Pair, assert_same_run


def assert_whole(genmed: Genmed) -> None:
    """What had been written is whole, the registry too."""
    assert all(check_checkpoint(path) == [] for path in list_checkpoints(genmed.run_folder() / "checkpoints"))
    registry = open_registry(genmed.root, create=False)
    assert registry is not None
    assert registry.runs()[0].name == genmed.run_folder().name
    assert genmed("show", "latest", "--json").code == 0


@pytest.mark.parametrize("limit", [700, 1500, 2500, 5000, 9000])
def test_file_size_limit_stops_the_training_and_room_brings_the_same_bits(
    pair: Pair, killed: Genmed, limit: int
) -> None:
    """The smallest lets nothing be written, not even that the run failed; others stop a checkpoint or the trace."""
    result = killed("resume", "latest", "--json", GENMED_TEST_LIMIT=str(limit))
    assert result.code == 1, result.err
    error = result.json["error"]
    assert re.match(r"no disk space to write \S+ \(File too large; \d+ MiB free\)", error["message"])
    assert "then go on with: genmed resume " in error["hint"]
    assert killed("list", "--json").json[0]["status"] in ("failed", "interrupted")
    assert_whole(killed)
    assert killed("resume", "latest", "--json").code == 0
    assert_same_run(killed, pair.whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kib", [40, 90, 120])
def test_full_disk_stops_the_training_and_room_brings_the_same_bits(
    genmed: Genmed, tiny: Arguments, trained: Genmed, small_disk: Path, kib: int
) -> None:
    """The disk is filled but for so much when the training has begun."""
    genmed.root = small_disk
    environ = {"GENMED_ROOT": str(small_disk)}
    filler = small_disk / "filler"
    status = os.statvfs(small_disk)
    filler.write_bytes(bytes(status.f_bavail * status.f_frsize - 400 * 1024))
    command = genmed.start(*tiny("--epochs", 4, "--set", "checkpoints.keep=9"), **environ)
    while command.running and not any(small_disk.glob("runs/*/trace.jsonl")):
        pass
    with open(filler, "ab") as file:
        status = os.statvfs(small_disk)
        file.write(bytes(max(0, status.f_bavail * status.f_frsize - kib * 1024)))
    result = command.wait()
    assert result.code == 1, result.err
    assert "no disk space" in result.json["error"]["message"] or "registry" in result.json["error"]["message"]
    assert_whole_after_room(genmed, environ, filler)
    resumed = genmed("resume", "latest", "--json", **environ)
    assert resumed.code == 0, resumed.err
    expected = trained("show", "latest", "--json").json
    for key in ("fingerprint", "trace_digest", "metrics"):
        assert resumed.json[key] == expected[key], key


def assert_whole_after_room(genmed: Genmed, environ: dict[str, str], filler: Path) -> None:
    filler.unlink()
    assert genmed("list", "--json", **environ).json[0]["status"] in ("failed", "interrupted")
    checkpoints = next(genmed.root.glob("runs/*/checkpoints"))
    assert all(check_checkpoint(path) == [] for path in list_checkpoints(checkpoints))
