"""Tasks on a Ray cluster: one a task, taken up elsewhere when its node is lost."""

import importlib
import socket
import time
from pathlib import Path
from typing import Any

import jax

from studies.populations import RECORD, train_members
from studies.tasks import Task, finished
from training.runtime.checkpoints import InUse

RETRIES = 10
PATIENCE = 120  # Seconds until a process on a lost node has let its runs go.
CHECKOUT = Path(__file__).parent.parent
LEFT_BEHIND = [".git", ".venv", "runs", "tests", "docs", "**/__pycache__"]

Records = dict[str, bytes]


def run_on_ray(tasks: list[Task], directory: Path, address: str, announce) -> None:
    """Trains tasks on the cluster at `address`, each with a CPU, and a GPU if it has.

    Nodes that share the directory take up what another has saved there; from others the
    record of a finished run is sent here, without its checkpoints.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """
    ray = _connect(address)
    gpus = 1 if "GPU" in ray.cluster_resources() else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(train_there)
    running = {remote.remote(task, directory.absolute()): task for task in tasks}
    try:
        while running:
            (ready, *_), _ = ray.wait(list(running))
            write_records(ray.get(ready), directory)
            announce(running.pop(ready))
    finally:
        ray.shutdown()


def train_there(task: Task, directory: Path) -> Records:
    """Trains a task on a node and returns the files of its runs' records."""
    directory.mkdir(parents=True, exist_ok=True)
    cache = task.trials[0].config.cache_dir
    jax.config.update("jax_compilation_cache_dir", f"{cache}/xla")
    _train_when_free(task, directory)
    return {
        f"{trial.run}/{name}": (directory / trial.run / name).read_bytes()
        for trial in task.trials
        for name in RECORD
    }


def write_records(records: Records, directory: Path) -> None:
    """Writes files that are not there yet; what marks a run as finished comes last."""
    for name, content in records.items():
        path = directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".partial")
            temporary.write_bytes(content)
            temporary.replace(path)


def _train_when_free(task: Task, directory: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not all(finished(trial, directory) for trial in task.trials):
        try:
            train_members(task, directory)
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def _connect(address: str) -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise ValueError(
            "--engine=ray: Ray is not installed; pip install -e '.[cluster]'."
        ) from None
    _check_answers(address)
    environment = {"working_dir": str(CHECKOUT), "excludes": LEFT_BEHIND}
    try:
        ray.init(
            address=address,
            runtime_env=environment,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except ConnectionError as error:
        raise ValueError(f"--address={address}: {error}") from None
    return ray


def _check_answers(address: str) -> None:
    """Ray itself tries for many minutes where nobody answers."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(
            f"--address={address}: no Ray cluster answers there ({error.strerror})."
        ) from None
