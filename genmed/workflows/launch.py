"""Starts a command's processes by the engine of torchrun, where it was not torchrun that started the command."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid

from genmed.ground.errors import ConfigError
from genmed.ground.team import TookPart, is_member
from genmed.ground.wording import say_count
from genmed.records.config import Config
from genmed.records.environment.cores import count_usable_processors

GRACE_SECONDS = 600
"""For the processes to make the state safe after a signal, before they are killed."""


def choose_processes(config: Config, asked: int | None) -> Config:
    """The config of a recorded run with as many processes as are asked for; else as recorded, at most the cores here.

    Raises ConfigError.
    """
    shards = config.compute.shards
    if asked is not None and (asked < 1 or asked & (asked - 1) or asked > shards):
        raise ConfigError(
            f"--processes must be a power of two up to the run's {say_count(shards, 'shard')}, got {asked}"
        )
    at_most = 1 << count_usable_processors().bit_length() - 1
    return config.replace(**{"compute.processes": asked or min(config.compute.processes, at_most)})


def launch(config: Config) -> None:
    """Has this very command run by as many processes as the config asks for: then raises TookPart.

    Returns where it asks for one alone, or torchrun has started the command.
    """
    processes = config.compute.processes
    if processes == 1 or is_member():
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # the processes speak for themselves
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE_SECONDS)
    options = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    )
    try:
        elastic_launch(options, sys.executable)("-m", "genmed", *sys.argv[1:])
    except SignalException:
        raise TookPart(130) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise TookPart(failure.exitcode) from None
        print(f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}", file=sys.stderr)
        raise TookPart(1) from None
    raise TookPart
