"""Tasks on a Ray cluster, which resumes a task elsewhere when its node is lost."""

import functools
import importlib
import socket
import time
from pathlib import Path
from typing import Any

from studies.populations import train_members
from studies.records import RECORD, whole
from studies.tasks import Task, finished
from training.config import Config
from training.record.files import replacing
from training.runtime.checkpoints import InUse
from training.runtime.compilation import set_up_process

RETRIES = 10
PATIENCE = 120  # The seconds after which a lost node has released its workdirs.
CHECKOUT = Path(__file__).parent.parent
LEFT_BEHIND = [".git", ".venv", "runs", "tests", "docs", "**/__pycache__"]

Records = dict[str, bytes]


def run_on_ray(tasks: list[Task], directory: Path, address: str, announce) -> None:
    """Train tasks on the cluster at `address`, each on one CPU and one GPU if any.

    Nodes that share the directory resume the runs that another node has saved there.
    Nodes that do not share it send back the record of each finished run, without its
    checkpoints.

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


def workers_on_ray(address: str) -> int:
    """Return how many tasks the cluster at `address` trains side by side.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """
    ray = _connect(address)
    try:
        found = ray.cluster_resources()
    finally:
        ray.shutdown()
    return max(1, int(found["GPU" if "GPU" in found else "CPU"]))


def train_there(task: Task, directory: Path) -> Records:
    """Train a task on a node and return the files of its runs' records."""
    directory.mkdir(parents=True, exist_ok=True)
    config = task.trials[0].config
    _set_up_once(config.cache_dir, config.mesh, config.deterministic)
    _train_when_free(task, directory)
    return {
        f"{trial.run}/{name}": (directory / trial.run / name).read_bytes()
        for trial in task.trials
        for name in RECORD
    }


def write_records(records: Records, directory: Path) -> None:
    """Write the files of the runs whose records are not whole here."""
    runs = {name.partition("/")[0] for name in records}
    missing = {run for run in runs if not whole(directory / run)}
    for name, content in records.items():
        path = directory / name
        if name.partition("/")[0] in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(content)


# Ray reuses a worker for many tasks, and JAX takes devices and XLA flags only once.
@functools.cache
def _set_up_once(cache_dir: str, mesh: str, deterministic: bool) -> None:
    set_up_process(Config(cache_dir=cache_dir, mesh=mesh, deterministic=deterministic))


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
    _check_reachable(address)
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


def _check_reachable(address: str) -> None:
    """Check that something listens, because Ray itself would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(
            f"--address={address}: no Ray cluster listens there ({error.strerror})."
        ) from None
