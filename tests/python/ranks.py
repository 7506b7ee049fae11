"""Processes of one distributed run on this machine, for tests."""

import gc
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch.distributed as dist

TIME_LIMIT = 300  # seconds, of a machine that is busy


def start(script: str | Path, folder: Path, ranks: int, *arguments: str) -> list[subprocess.Popen]:
    """`script folder arguments...` once for every rank, in the environment that torchrun would give it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, str(script), str(folder), *arguments]
    environments = ({**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks))
    return [subprocess.Popen(command, env=environment) for environment in environments]


def finish(processes: list[subprocess.Popen]) -> list[int]:
    """Their exit codes; none outlives the time limit."""
    deadline = time.monotonic() + TIME_LIMIT
    try:
        return [process.wait(max(1.0, deadline - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()


def leave() -> None:
    """The end of a rank's program. Of groups that are still there as the interpreter ends, a thread that lets go of the
    last collective's tensor aborts the process (https://github.com/pytorch/pytorch/issues/190489).
    """
    dist.destroy_process_group()
    gc.collect()  # meshes and models go in circles, and hold the groups
