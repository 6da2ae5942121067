"""Processes: a run as one process of many, on JAX's multi-controller runtime.

Every process runs the same program and fetches its own rows of each batch; process 0
alone writes the record. There is one checkpoint, on a file system that all can reach.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from training.runtime.lost_process import filter_stderr

# What a launcher sets where it has started several processes, and how many they are.
LAUNCHERS = {
    ("SLURM_PROCID", "SLURM_STEP_NODELIST"): "SLURM_NTASKS",
    ("OMPI_COMM_WORLD_RANK",): "OMPI_COMM_WORLD_SIZE",
}


class Launch(NamedTuple):
    """How many processes a run has, which of them this is, and where they meet.

    Attributes:
        coordinator: host:port of process 0, `auto` as the cluster's environment says,
            or empty: `auto` where a launcher has started several processes.
        processes: the number of processes; 0 if the environment says it.
        process_id: the number of this process, from 0; -1 if the environment says it.
        timeout: seconds after which a silent process counts as lost.
    """

    coordinator: str = ""
    processes: int = 0
    process_id: int = -1
    timeout: int = 100


def join(launch: Launch, environment: Mapping[str, str] = os.environ) -> int:
    """Join the other processes, before JAX starts, and return how many there are.

    Raises:
        ValueError: flags that do not fit together, or processes that do not respond.
    """
    launched = launched_processes(environment)
    if not launch.coordinator and (launch.processes or launch.process_id >= 0):
        raise ValueError("--processes and --process_id need --coordinator=host:port.")
    if not launch.coordinator and launched == 1:
        return 1
    explicit = launch.coordinator not in ("", "auto")
    if explicit and not 0 <= launch.process_id < launch.processes:
        raise ValueError(
            f"--coordinator={launch.coordinator} --processes={launch.processes} "
            f"--process_id={launch.process_id}: expected host:port, how many processes "
            "there are, and which of them this is, from 0."
        )
    own = launch.coordinator, launch.processes, launch.process_id
    _initialize(own if explicit else (None, None, None), launch.timeout)
    return launch.processes if explicit else launched


def launched_processes(environment: Mapping[str, str]) -> int:
    """Return how many processes SLURM or Open MPI has started; 1 where neither has."""
    for present, count in LAUNCHERS.items():
        if all(name in environment for name in (*present, count)):
            return int(environment[count])
    return 1


def _initialize(own: tuple, timeout: int) -> None:
    filter_stderr()
    try:
        jax.distributed.initialize(
            *own, initialization_timeout=timeout, heartbeat_timeout_seconds=timeout
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"--coordinator={own[0] or 'auto'}: cannot join the other processes "
            f"within {timeout} s ({reason}); expected host:port of process 0 with all "
            "processes running, or auto on SLURM, Open MPI, Kubernetes or a TPU pod."
        ) from None


def leads() -> bool:
    """Return whether this process writes the record."""
    return jax.process_index() == 0


def by_leader(write: Callable[..., None]) -> Callable[..., None]:
    """Return a function that does nothing in any process but the first."""

    @functools.wraps(write)
    def write_if_leader(*arguments) -> None:
        if leads():
            write(*arguments)

    return write_if_leader


def check_same(flags: str) -> None:
    """Raise ValueError where processes were started with different flags."""
    own = np.frombuffer(hashlib.sha256(flags.encode()).digest(), np.uint8)
    all_of_them = multihost_utils.process_allgather(own).reshape(-1, own.size)
    different = np.flatnonzero((all_of_them != all_of_them[0]).any(1)).tolist()
    if different:
        raise ValueError(
            f"processes {different} were started with other flags than process 0; "
            "expected the same for all but --process_id, --data_dir, --cache_dir, "
            "--loader_threads and --loader_processes."
        )


def leave(message: str) -> NoReturn:
    """Exit with status 1 and one line; the other processes then end too."""
    line = " ".join(message.split("\n")[0].split())
    if not jax.distributed.is_initialized():
        sys.exit(line)
    again = "the same commands go on from the last saved step"
    print(f"{line} (process {jax.process_index()}; {again})", file=sys.stderr)
    sys.stderr.flush()
    os.close(sys.stderr.fileno())
    os.wait()  # Until what passes the lines on has done so.
    # An orderly exit would wait for processes that may be lost.
    os._exit(1)
