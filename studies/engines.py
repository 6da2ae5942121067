"""Engines, which run tasks one after another in this process, or on a Ray cluster."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from studies.cluster import run_on_ray
from studies.populations import train_members
from studies.tasks import Task

CONSOLE = Console(stderr=True)
Announce = Callable[[Task], None]


def run_here(
    tasks: list[Task], directory: Path, address: str, announce: Announce
) -> None:
    """Train the tasks one after another, in this process."""
    for task in tasks:
        train_members(task, directory)
        announce(task)


ENGINES = {"local": run_here, "ray": run_on_ray}


def run_tasks(
    tasks: list[Task], directory: Path, engine: str = "local", address: str = ""
) -> None:
    """Train tasks with an engine, and print the progress after each task."""
    progress = {"done": 0, "total": sum(len(task.trials) for task in tasks)}
    ENGINES[engine](
        tasks, directory, address, partial(_announce, progress, time.monotonic())
    )


def _announce(progress: dict[str, int], begin: float, task: Task) -> None:
    """Print the number of finished runs, the last task's arms and the time left."""
    progress["done"] += len(task.trials)
    done, total = progress["done"], progress["total"]
    names = ", ".join(dict.fromkeys(trial.arm for trial in task.trials))
    left = (time.monotonic() - begin) / done * (total - done)
    text = f"{done}/{total} members  {names}  {left / 60:.1f} min left"
    CONSOLE.print(text, highlight=False, markup=False)
