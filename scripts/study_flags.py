"""What compare.py and sweep.py share: the flags of a study, its training, its table."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from absl import flags
from rich.console import Console

from studies.arms import Arm
from studies.comparison import compare
from studies.engines import ENGINES, run_tasks
from studies.study import Study, claim
from studies.tables import markdown, show
from studies.tasks import Task, program
from train import given_config, place, set_up
from training.config import Config, canonical
from training.members import parse_seeds
from training.record.files import write_atomically

TARGET = flags.DEFINE_float(
    "target", 0.0, "accuracy whose time is measured, 0: none", 0.0, 1.0
)
QUESTION = flags.DEFINE_string("question", "", "what the study asks, for its report")
MEMBERS = flags.DEFINE_integer("members", 64, "most runs of one program", 1)
ENGINE = flags.DEFINE_enum("engine", "local", list(ENGINES), "where programs run")
ADDRESS = flags.DEFINE_string("address", "auto", "of the Ray cluster")


def base_config() -> Config:
    """The flags' configuration, canonical, JAX being set up for its members."""
    base = set_up(canonical(given_config()), place())
    return replace(base, seeds="", mesh="", workdir="")


def study_of(arms: Sequence[Arm], question: str, directory: str) -> Study:
    """The study of some arms; the flags' question and workdir go before those given."""
    return Study(
        QUESTION.value or question,
        list(arms),
        parse_seeds(str(flags.FLAGS["seeds"].value)),
        Path(flags.FLAGS["workdir"].value or directory),
        TARGET.value,
        shlex.join(["python", *sys.argv]),
    )


def train(study: Study, tasks: list[Task]) -> None:
    """Trains tasks of a study with the engine that the flags name."""
    claim(study)
    runs = sum(len(task.trials) for task in tasks)
    programs = len({program(task.trials[0].config) for task in tasks})
    print(f"{runs} runs to train, in {programs} programs", file=sys.stderr)
    run_tasks(tasks, study.directory, ENGINE.value, ADDRESS.value)


def show_table(study: Study, rows: pl.DataFrame) -> None:
    """Prints the table of a study and writes it to `table.md`."""
    lines = compare(rows, study.directory)
    write_atomically(study.directory / "table.md", markdown(lines))
    show(lines, Console())
    print(f"results in {study.directory / 'results.parquet'}")
