"""Two hosts: network namespaces with names and addresses of their own, and a link between them that can be cut."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Command, Genmed, own_environment
from tests.resuming.runs import Arguments, wait_for
from tests.teams.starting import describe, describe_team
from tests.teams.test_equal_bits import MODEL

PATIENCE = 8
HOSTS = ("host-a", "host-b")
pytestmark = pytest.mark.timeout(600)  # fresh interpreters, four at once


class Hosts:
    """host-a and host-b, 10.77.0.1 and 10.77.0.2."""

    def __init__(self, folder: Path) -> None:
        mark = uuid.uuid4().hex[:6]
        self.names = [f"genmed-{mark}-{host}" for host in "ab"]
        self.links = [f"g{mark}{host}" for host in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self.running: list[subprocess.Popen[str]] = []
        self.known = folder / "hosts"
        names = [f"{address} {host}\n" for address, host in zip(self.addresses, HOSTS, strict=True)]
        self.known.write_text("127.0.0.1 localhost\n" + "".join(names))

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
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # torchrun itself waits some minutes for the other host's
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def run(self, host: int, genmed: Genmed, *arguments: object) -> subprocess.Popen[str]:
        """torchrun with two processes, as an administrator would start it on each host."""
        rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={self.addresses[0]}:29511", "--rdzv-id=hosts"]
        run = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", *rendezvous]
        run += [f"--local-addr={self.addresses[host]}", "-m", "genmed", *map(str, arguments)]
        inside = f'mount --bind "{self.known}" /etc/hosts && hostname {HOSTS[host]} && exec "$@"'
        apart = ["unshare", "--uts", "--mount", "sh", "-c", inside, "sh"]
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *apart, *run],
            env={**own_environment(), **genmed.environ, "GLOO_SOCKET_IFNAME": self.links[host]},
            cwd=genmed.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def start(self, genmed: Genmed, *arguments: object) -> list[Command]:
        """Two processes on each host, as a batch system would start them."""
        members = describe_team(4)
        for rank, environ in enumerate(members):
            host, local = divmod(rank, 2)
            environ |= {"MASTER_ADDR": self.addresses[0], "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": "2"}
            environ |= {"GLOO_SOCKET_IFNAME": self.links[host]}
        enter = [partial(_enter, name, host, self.known) for name, host in zip(self.names, HOSTS, strict=True)]
        return [genmed.start(*arguments, first=enter[rank // 2], **environ) for rank, environ in enumerate(members)]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _enter(namespace: str, host: str, known: Path) -> None:
    """This process moves to a network, a host name and an /etc/hosts of its own."""
    system = ctypes.CDLL(None, use_errno=True)

    def call(function: str, *arguments: object) -> None:
        if getattr(system, function)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), function)

    with open(f"/run/netns/{namespace}") as file:
        call("setns", file.fileno(), NETWORK)
    call("unshare", MOUNTS | HOST_NAME)
    call("mount", None, b"/", None, RECURSIVE | PRIVATE, None)
    call("mount", bytes(known), b"/etc/hosts", None, BIND, None)
    socket.sethostname(host)


NETWORK, MOUNTS, HOST_NAME = 0x40000000, 0x00020000, 0x04000000
"""CLONE_NEWNET, CLONE_NEWNS and CLONE_NEWUTS of <linux/sched.h>."""
BIND, RECURSIVE, PRIVATE = 1 << 12, 1 << 14, 1 << 18
"""MS_BIND, MS_REC and MS_PRIVATE of <sys/mount.h>."""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path)
    try:
        hosts.make()
    except (OSError, subprocess.CalledProcessError):
        hosts.remove()
        pytest.skip("no network namespaces can be made here: they need root and iproute2")
    yield hosts
    hosts.remove()


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

    both = [hosts.run(host, genmed, *command, "--name", "both") for host in range(2)]
    (out, err), (other_out, _) = (process.communicate(timeout=200) for process in both)
    assert [process.returncode for process in both] == [0, 0], err
    assert {key: json.loads(out)[key] for key in alone} == alone
    assert other_out == ""

    slow = [*command, "--epochs", 30, "--set", "checkpoints.every_steps=10", "--name", "cut"]
    members = hosts.start(genmed, *slow)
    begun = (genmed.root / "runs").glob
    wait_for(lambda: any(begun("cut-*")) and read_document(genmed, "cut")["checkpoint_step"] >= 10, 120)
    hosts.cut()
    leader, *others = (member.wait(PATIENCE + 60) for member in members)  # raises TimeoutError
    assert {leader.code, *(other.code for other in others)} == {1}
    message = leader.json["error"]["message"]
    assert re.match("rank 0 lost contact with |rank 1 on host-a: lost contact with ", message), message
    document = read_document(genmed, "cut")
    assert document["status"] == "failed"
    assert "lost contact with" in document["error"]
    resumed = genmed("resume", "cut", "--json")
    assert resumed.code == 0
    assert describe(resumed) == describe(genmed(*slow[:-1], "uncut"))
