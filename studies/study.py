"""A study: arms and seeds in a directory, the training of its runs, and its table."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.console import Console

from studies.arms import Arm, Trial, trials
from studies.comparison import MARGIN, Versus, compare
from studies.engines import count_workers, run_tasks
from studies.looks import look
from studies.outcomes import append, outcome
from studies.populations import begun
from studies.tables import latex, markdown, show
from studies.tasks import Task, finished, group, parts_of, program, shard
from training.config import Config
from training.flag_text import flag_lines
from training.record.files import make_directory, write_atomically
from training.record.versions import versions

RESULTS = "results.parquet"


class StudyRequest(NamedTuple):
    """The user's request for a study, apart from its arms.

    Attributes:
        base: the configuration that arms change, with its mesh as it was given.
        question: what the study asks; empty for the script's own question.
        seeds: the seeds of every arm.
        workdir: the directory of the study; empty for the script's own choice.
        target: the accuracy for which the time to reach it is measured; 0 for none.
        margin: the largest difference in test error that counts as equal, in points.
        members: the most runs that one program trains.
        engine: one of `studies.engines.ENGINES`.
        address: the address of a Ray cluster.
        command: the command that repeats the study.
    """

    base: Config
    question: str
    seeds: tuple[int, ...]
    workdir: str
    target: float
    margin: float
    members: int
    engine: str
    address: str
    command: str


class Study(NamedTuple):
    """A question, the arms and seeds that answer it, and the directory of the results.

    Attributes:
        target: the accuracy for which the time to reach it is measured; 0 for none.
        command: the command that repeats the study.
        versus: by the name of an arm, the arm that it is compared with.
        margin: the largest difference in test error that counts as equal, in points.
        remarks: what its table says beside the comparison, as how arms were chosen.
    """

    question: str
    arms: list[Arm]
    seeds: tuple[int, ...]
    directory: Path
    target: float
    command: str
    versus: Versus
    margin: float = MARGIN
    remarks: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """Return a trial for every arm and seed."""
        return trials(self.arms, self.seeds)


def study_of(
    request: StudyRequest,
    arms: Sequence[Arm],
    question: str,
    directory: str,
    versus: Versus,
) -> Study:
    """Return the study of some arms, compared as `versus` says.

    The question and workdir of the request, unless empty, replace those given here.
    """
    return Study(
        request.question or question,
        list(arms),
        request.seeds,
        Path(request.workdir or directory),
        request.target,
        request.command,
        versus,
        request.margin,
    )


def tasks_of(study: Study, request: StudyRequest, part: str = "0/1") -> list[Task]:
    """Return the unfinished tasks of a part of a study, sized for those who train."""
    workers = count_workers(request.engine, request.address)
    return pending(study, request.members, part, workers)


def pending(study: Study, most: int, part: str = "0/1", workers: int = 1) -> list[Task]:
    """Return the unfinished tasks of a part, `i/n`, with at most `most` runs each.

    The parts are those of the whole study, whatever of it is finished meanwhile; each
    has `workers` that train its tasks side by side. Populations that were begun are
    taken up before others are made of the rest.
    """
    workers *= parts_of(part)[1]
    tasks = shard(group(study.trials, most, workers), part)
    own = {trial.run: trial for task in tasks for trial in task.trials}
    left = {n: t for n, t in own.items() if not finished(t, study.directory)}
    resumed = []
    for names in begun(study.directory):
        if left.keys() & names and own.keys() >= set(names) and len(names) <= most:
            resumed.append(Task(tuple(own[name] for name in names)))
            left = {n: t for n, t in left.items() if n not in names}
    return resumed + group(left.values(), most, workers)


def open_study(study: Study) -> None:
    """Make the study's directory and write `study.json`, which the report reads."""
    make_directory("workdir", str(study.directory))
    record = {
        "question": study.question,
        "arms": [
            {"name": a.name, "stop": a.stop, "flags": flag_lines(a.config)}
            for a in study.arms
        ],
        "seeds": study.seeds,
        "target": study.target,
        "versus": study.versus,
        "margin": study.margin,
        "remarks": study.remarks,
        "command": study.command,
        "versions": versions(),
    }
    write_atomically(study.directory / "study.json", json.dumps(record, indent=2))


def train_tasks(study: Study, tasks: list[Task], request: StudyRequest) -> None:
    """Train tasks of a study with the engine that the request names."""
    open_study(study)
    runs = sum(len(task.trials) for task in tasks)
    programs = len({program(task.trials[0].config) for task in tasks})
    print(f"{runs} runs to train, in {programs} programs", file=sys.stderr)
    run_tasks(tasks, study.directory, request.engine, request.address)


def collect(study: Study) -> pl.DataFrame:
    """Return the rows of the finished trials, and add them to `results.parquet`."""
    rows = [
        outcome(trial, study.directory, study.target)
        for trial in study.trials
        if finished(trial, study.directory)
    ]
    if rows:
        append(study.directory / RESULTS, rows)
    return pl.DataFrame(rows, infer_schema_length=None)


def show_table(study: Study, rows: pl.DataFrame) -> None:
    """Print the table of a study, and write `table.md` and `table.tex`."""
    lines = compare(rows, study.directory, study.versus, study.margin)
    looks = look(study.directory, study.seeds)
    text = markdown(lines, (*study.remarks, *looks))
    write_atomically(study.directory / "table.md", text)
    write_atomically(study.directory / "table.tex", latex(lines))
    show(lines, Console(), looks)
    print(f"results in {study.directory / RESULTS}")
