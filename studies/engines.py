"""Engines, which run tasks one after another in this process, or on a Ray cluster."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from studies.cluster import run_on_ray, workers_on_ray
from studies.populations import train_members
from studies.tasks import Task

CONSOLE = Console(stderr=True)
AnnounceTask = Callable[[Task], None]


def run_here(
    tasks: list[Task], directory: Path, address: str, announce: AnnounceTask
) -> None:
    """Train the tasks one after another, in this process."""
    for task in tasks:
        train_members(task, directory)
        announce(task)


ENGINES = {"local": run_here, "ray": run_on_ray}


def count_workers(engine: str, address: str) -> int:
    """Return how many tasks an engine trains side by side."""
    return workers_on_ray(address) if engine == "ray" else 1


def run_tasks(
    tasks: list[Task], directory: Path, engine: str = "local", address: str = ""
) -> None:
    """Train tasks with an engine, and print the progress after each."""
    done: list[Task] = []
    begin = time.monotonic()

    def announce(task: Task) -> None:
        done.append(task)
        text = progress_line(done, tasks, time.monotonic() - begin)
        CONSOLE.print(Text(text, overflow="fold"))

    ENGINES[engine](tasks, directory, address, announce)


def progress_line(done: list[Task], tasks: list[Task], seconds: float) -> str:
    """Return how much is finished, the arms of the last program, and the time left.

    The time left counts programs, not members: each is compiled, whatever its size.
    """
    members, total = (sum(len(task.trials) for task in some) for some in (done, tasks))
    names = ", ".join(dict.fromkeys(trial.arm for trial in done[-1].trials))
    left = seconds / len(done) * (len(tasks) - len(done)) / 60
    return (
        f"{members}/{total} members, {len(done)}/{len(tasks)} programs  {names}  "
        f"{left:.1f} min left"
    )
