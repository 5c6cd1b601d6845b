"""Two hosts: network namespaces with names and addresses of their own, and a link between them that can be cut."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import Genmed, own_environment
from tests.resuming.runs import Arguments, wait_for
from tests.teams.starting import describe
from tests.teams.test_equal_bits import MODEL

PATIENCE = 8
pytestmark = pytest.mark.timeout(600)  # fresh interpreters, four at once


class Hosts:
    """`a` and `b`, 10.77.0.1 and 10.77.0.2."""

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:6]
        self.names = [f"genmed-{mark}-{host}" for host in "ab"]
        self.links = [f"g{mark}{host}" for host in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]

    def make(self) -> None:
        for name in self.names:
            _run("ip", "netns", "add", name)
        first, second = self.links
        _run("ip", "link", "add", first, "type", "veth", "peer", "name", second)
        for name, link, address in zip(self.names, self.links, self.addresses, strict=True):
            _run("ip", "link", "set", link, "netns", name)
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", link)
            _run("ip", "-n", name, "link", "set", link, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")

    def cut(self) -> None:
        """Whatever is sent from now on is lost; nobody is told."""
        _run("ip", "-n", self.names[1], "link", "set", self.links[1], "down")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def start(self, host: int, genmed: Genmed, *arguments: object) -> subprocess.Popen[str]:
        """torchrun with two processes, as an administrator would start it on each host."""
        rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={self.addresses[0]}:29511", "--rdzv-id=hosts"]
        run = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", *rendezvous]
        run += [f"--local-addr={self.addresses[host]}", "-m", "genmed", *map(str, arguments)]
        known = genmed.root / "hosts"
        names = [f"{address} host-{letter}\n" for address, letter in zip(self.addresses, "ab", strict=True)]
        known.write_text("127.0.0.1 localhost\n" + "".join(names))
        inside = f'mount --bind "{known}" /etc/hosts && hostname host-{"ab"[host]} && exec "$@"'
        apart = ["unshare", "--uts", "--mount", "sh", "-c", inside, "sh"]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *apart, *run],
            env={**own_environment(), **genmed.environ, "GLOO_SOCKET_IFNAME": self.links[host]},
            cwd=genmed.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    try:
        hosts.make()
    except (OSError, subprocess.CalledProcessError):
        hosts.remove()
        pytest.skip("no network namespaces can be made here: they need root and iproute2")
    yield hosts
    hosts.remove()


def is_member(process: psutil.Process) -> bool:
    return [word for word in process.cmdline()[1:] if word != "-u"][:2] == ["-m", "genmed"]


def has_ended(process: psutil.Process) -> bool:
    """Or waits for a torchrun that itself waits for the other host."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def read_document(genmed: Genmed, name: str) -> dict[str, Any]:
    [path] = (genmed.root / "runs").glob(f"{name}-*/run.json")
    return dict(json.loads(path.read_text()))


def test_two_hosts_give_the_same_trace_and_a_cut_link_ends_in_an_exact_resume(
    hosts: Hosts, genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    (genmed.root / "model.py").write_text(MODEL)
    often = ["--set", "checkpoints.every_steps=2", "--set", f"compute.patience_seconds={PATIENCE}"]
    command = [*tiny("--shards", 4, "--batch-size", 12, *often), "--model", f"{genmed.root / 'model.py'}:build"]
    alone = describe(genmed(*command, "--name", "alone"))

    both = [hosts.start(host, genmed, *command, "--name", "both") for host in range(2)]
    (out, err), (other_out, _) = (process.communicate(timeout=200) for process in both)
    assert [process.returncode for process in both] == [0, 0], err
    assert {key: json.loads(out)[key] for key in alone} == alone
    assert other_out == ""

    slow = [*command, "--epochs", 30, "--set", "checkpoints.every_steps=10", "--name", "cut"]
    both = [hosts.start(host, genmed, *slow) for host in range(2)]
    begun = (genmed.root / "runs").glob
    wait_for(lambda: any(begun("cut-*")) and read_document(genmed, "cut")["checkpoint_step"] >= 10, 120)
    hosts.cut()
    cut = time.monotonic()
    members = [child for process in both for child in psutil.Process(process.pid).children(recursive=True)]
    members = [child for child in members if is_member(child)]
    assert len(members) == 4
    wait_for(lambda: all(has_ended(member) for member in members), 60)
    assert time.monotonic() - cut < PATIENCE + 20
    out, _ = both[0].communicate(timeout=60)
    message = json.loads(out)["error"]["message"]
    assert re.match("rank 0 lost contact with |rank 1 on host-a: lost contact with ", message), message
    document = read_document(genmed, "cut")
    assert document["status"] == "failed"
    assert "lost contact with" in document["error"]
    resumed = genmed("resume", "cut", "--json")
    assert resumed.code == 0
    assert describe(resumed) == describe(genmed(*slow[:-1], "uncut"))
    os.killpg(both[1].pid, signal.SIGKILL)  # torchrun itself waits some minutes for the other host's
    both[1].communicate()
