"""A study: arms and seeds in a directory, trained where needed, and its table."""

import json
from pathlib import Path
from typing import NamedTuple

import polars as pl

from studies.arms import Arm, Trial, trials
from studies.outcomes import append, outcome
from studies.tasks import Task, finished, group, shard
from training.config import flag_lines
from training.record.files import make_directory, versions, write_atomically

RESULTS = "results.parquet"


class Study(NamedTuple):
    """What is asked, of which arms, at which seeds, and where the answer is kept.

    Attributes:
        target: accuracy whose time is measured; 0 for none.
        command: what repeats it.
    """

    question: str
    arms: list[Arm]
    seeds: tuple[int, ...]
    directory: Path
    target: float
    command: str

    @property
    def trials(self) -> list[Trial]:
        """Every arm at every seed."""
        return trials(self.arms, self.seeds)


def pending(study: Study, most: int, part: str = "0/1") -> list[Task]:
    """The tasks of a part, `i/n`, that are not finished, at most `most` runs each.

    Parts are those of the whole study, whatever of it is finished meanwhile.
    """
    tasks = shard(group(study.trials, most), part)
    own = (trial for task in tasks for trial in task.trials)
    return group((t for t in own if not finished(t, study.directory)), most)


def claim(study: Study) -> None:
    """Makes the directory and writes `study.json`, which reports read."""
    make_directory("workdir", str(study.directory))
    record = {
        "question": study.question,
        "arms": [
            {"name": a.name, "stop": a.stop, "flags": flag_lines(a.config)}
            for a in study.arms
        ],
        "seeds": study.seeds,
        "target": study.target,
        "command": study.command,
        "versions": versions(),
    }
    write_atomically(study.directory / "study.json", json.dumps(record, indent=2))


def collect(study: Study) -> pl.DataFrame:
    """The rows of the trials that are finished, added to `results.parquet` too."""
    rows = [
        outcome(trial, study.directory, study.target)
        for trial in study.trials
        if finished(trial, study.directory)
    ]
    if rows:
        append(study.directory / RESULTS, rows)
    return pl.DataFrame(rows, infer_schema_length=None)
