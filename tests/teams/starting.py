"""Teams of real processes, forked from the server as torchrun would start them."""

import socket
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tests.harness import Command, Genmed, Result


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def describe_team(size: int) -> list[dict[str, str]]:
    """The variables that torchrun would give to each process."""
    common = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_port()),
        "TORCHELASTIC_RUN_ID": str(uuid.uuid4()),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start_team(
    genmed: Genmed, size: int, *arguments: object, only: Mapping[int, Mapping[str, str]] | None = None, **environ: str
) -> list[Command]:
    """One command by so many processes. environ: of all of them; only: more for one, by rank."""
    return [
        genmed.start(*arguments, **{**own, **environ, **(only or {}).get(rank, {})})
        for rank, own in enumerate(describe_team(size))
    ]


def run_team(genmed: Genmed, size: int, *arguments: object, **environ: str) -> Result:
    """What the leader came to; all others ended as it did and said nothing."""
    if size == 1:
        return genmed(*arguments, **environ)
    return finish(start_team(genmed, size, *arguments, **environ))


def finish(team: Sequence[Command]) -> Result:
    leader, *others = (member.wait() for member in team)
    for other in others:
        assert (other.code, other.out, other.err) == (leader.code, "", ""), (leader, other)
    return leader


def describe(result: Result) -> dict[str, Any]:
    """Of a finished run, all that bits decide."""
    assert result.code == 0, result.err
    return {key: result.json[key] for key in ("fingerprint", "trace_digest", "metrics", "epochs_done", "steps_done")}
