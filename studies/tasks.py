"""Tasks: the runs of a study in populations, each trained once, in any order.

A task is idempotent: its workdirs follow from its runs, a run takes up what is saved
there, and a finished one is only read.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from dropout import Plan, parse
from studies.arms import Trial
from training.config import Config

TRACED = ("seed", "rate_factor", "learning_rate", "weight_decay")
UNIT_RATE = 0.5


class Task(NamedTuple):
    """Runs of one program: they differ in traced values only."""

    trials: tuple[Trial, ...]


def group(trials: Iterable[Trial], most: int) -> list[Task]:
    """The different runs of some trials, `most` a task, those of one program together.

    What differs in seed, learning rate, weight decay, or in the one rate of its plan,
    shares a program; another shape, variant, site or schedule is another one.
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
    """What is compiled for a run: its configuration without the traced values."""
    defaults = {f.name: f.default for f in fields(Config) if f.name in TRACED}
    return replace(config, **defaults, dropout=unit_plan(config.dropout)[0])


def unit_plan(text: str) -> tuple[str, float]:
    """The plan with `UNIT_RATE` everywhere, and the factor that gives the rate back.

    A plan with several rates is its own, with factor 1. `UNIT_RATE` is a power of two,
    so that rate * factor is exact.
    """
    plan = parse(text)
    rates = {rule.rate for rule in plan.rules}
    if len(rates) != 1 or not isinstance(rate := rates.pop(), float):
        return text, 1.0
    rules = tuple(replace(rule, rate=UNIT_RATE) for rule in plan.rules)
    return str(Plan(rules)), rate / UNIT_RATE


def shard(tasks: list[Task], text: str) -> list[Task]:
    """Every n-th task from the i-th on, for `i/n` with i in 0..n-1.

    Raises:
        ValueError: `text` has another form.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard={text}: expected i/n with 0 <= i < n.")
    return tasks[int(index) :: int(count)]


def finished(trial: Trial, directory: Path) -> bool:
    """Whether a trial's run is whole, its predictions included."""
    return (directory / trial.run / "predictions.npz").exists()
