"""Tasks: the runs of a study in populations, each trained once, in any order.

A task is idempotent: its runs determine its workdirs, a run resumes from what is saved
there, and a finished run is only read.
"""

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


def group(trials: Iterable[Trial], most: int) -> list[Task]:
    """Group the different runs of some trials by program, at most `most` per task.

    Runs share a program if they differ only in seed, learning rate, weight decay, or
    the one rate of their plan. Another shape, variant, site or schedule needs a program
    of its own.
    """
    runs = {trial.run: trial for trial in trials}
    programs: dict[Config, list[Trial]] = {}
    for trial in runs.values():
        programs.setdefault(program(trial.config), []).append(trial)
    return [
        Task(tuple(found[start : start + most]))
        for found in programs.values()
        for start in range(0, len(found), most)
    ]


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
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard={text}: expected i/n with 0 <= i < n.")
    return tasks[int(index) :: int(count)]


def finished(trial: Trial, directory: Path) -> bool:
    """Return whether the record of a trial's run is complete, and nothing damaged."""
    return whole(directory / trial.run)
