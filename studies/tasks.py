"""Tasks: the runs of a study in populations, each trained once, in any order.

A task is idempotent: its runs determine its workdirs, a run resumes from what is saved
there, and a finished run is only read.
"""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from dropout import Plan, parse
from studies.arms import Trial
from studies.records import whole
from training.config import Config
from training.members import Member

UNIT_RATE = 0.5


class Task(NamedTuple):
    """Runs of one program, which differ only in traced values."""

    trials: tuple[Trial, ...]


def group(trials: Iterable[Trial], most: int, workers: int = 1) -> list[Task]:
    """Group the different runs of some trials by program, at most `most` per task.

    With several workers, the tasks of a program have the same size and their number is
    a multiple of the number of workers, as far as the runs suffice: no worker is idle,
    and all find the program compiled.
    Runs share a program if they differ only in seed, learning rate, weight decay, or
    the one rate of their plan. Another shape, variant, site or schedule needs a program
    of its own.
    """
    runs = {trial.run: trial for trial in trials}
    programs: dict[Config, list[Trial]] = {}
    for trial in runs.values():
        programs.setdefault(program(trial.config), []).append(trial)
    return [
        Task(tuple(found[start : start + size]))
        for found in programs.values()
        for size in (task_size(len(found), most, workers),)
        for start in range(0, len(found), size)
    ]


def task_size(runs: int, most: int, workers: int) -> int:
    """Return how many runs each task of a program has, but for the last one."""
    if workers == 1:
        return most
    rounds = math.ceil(runs / (most * workers))
    return math.ceil(runs / (rounds * workers))


def program(config: Config) -> Config:
    """Return the configuration of a run's program, without the traced values."""
    defaults = {f.name: f.default for f in fields(Config) if f.name in Member._fields}
    return replace(config, **defaults, dropout=unit_plan(config.dropout)[0])


def unit_plan(text: str) -> tuple[str, float]:
    """Return the plan with `UNIT_RATE` everywhere, and the factor that restores it.

    A plan with several rates is returned as it is, with factor 1. `UNIT_RATE` is a
    power of two, so that rate * factor is exact.
    """
    plan = parse(text)
    rates = {rule.rate for rule in plan.rules}
    if len(rates) != 1 or not isinstance(rate := rates.pop(), float):
        return text, 1.0
    rules = tuple(replace(rule, rate=UNIT_RATE) for rule in plan.rules)
    return str(Plan(rules)), rate / UNIT_RATE


def shard(tasks: list[Task], text: str) -> list[Task]:
    """Return every n-th task from the i-th on, for a text `i/n` with i in 0..n-1.

    Raises:
        ValueError: the text has another form.
    """
    index, count = parts_of(text)
    return tasks[index::count]


def parts_of(text: str) -> tuple[int, int]:
    """Return which part of how many a text `i/n` names.

    Raises:
        ValueError: the text has another form.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard={text}: expected i/n with 0 <= i < n.")
    return int(index), int(count)


def finished(trial: Trial, directory: Path) -> bool:
    """Return whether the record of a trial's run is complete, and nothing damaged."""
    return whole(directory / trial.run)
