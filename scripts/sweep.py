"""Trains points of a space of plans and flags, and says which are better than none.

    python scripts/sweep.py --plan='{sites}:{variant}:{rate}' \\
        --space='sites=fc, conv*; variant=bernoulli, gaussian; rate=0.1..0.7/4'
    python scripts/sweep.py --plan='fc:bernoulli:{rate}' --validation_examples=200 \\
        --space='rate=0..0.8; learning_rate=log(1e-4..1e-2)' --sampler=optuna

Samplers: grid, random, sobol, and optuna, which learns from the loss on validation
examples and keeps what it knows in `optuna.db`, an SQLite file in --workdir. All flags
of train.py hold for every point. Points that differ only in seed, rate, learning rate
or weight decay train in one program. The first arm is --baseline. `--shard=i/n` trains
the i-th of n parts in the same --workdir, in any order and on any machine; --engine=ray
spreads them over a cluster.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from studies.arms import Arm, changed
from studies.comparison import compare
from studies.engines import ENGINES, run_tasks
from studies.outcomes import outcome
from studies.search import answered, ask, open_search, tell
from studies.space import SAMPLERS, Sample, draw, fill, parse_space
from studies.study import Study, claim, collect, pending
from studies.tables import markdown, show
from studies.tasks import shard
from train import given_config, place, set_up
from training.config import Config, canonical
from training.interrupt import Stopped
from training.members import parse_seeds
from training.record import write_atomically

flags.FLAGS.set_default("seeds", "0:4")
PLAN = flags.DEFINE_string("plan", "", "a plan with {names} of the space in it")
SPACE = flags.DEFINE_string("space", "rate=0.1..0.7", "name=a, b; name=low..high; ...")
SAMPLER = flags.DEFINE_enum(
    "sampler", "grid", [*SAMPLERS, "optuna"], "how points are drawn"
)
SAMPLES = flags.DEFINE_integer("samples", 16, "points, but for a grid", 1)
BATCH = flags.DEFINE_integer("batch", 4, "points that optuna asks for together", 1)
BASELINE = flags.DEFINE_string("baseline", "none", "the plan that all are compared to")
TARGET = flags.DEFINE_float(
    "target", 0.0, "accuracy whose time is measured, 0: none", 0.0, 1.0
)
QUESTION = flags.DEFINE_string("question", "", "what the sweep asks, for its report")
MEMBERS = flags.DEFINE_integer("members", 64, "most runs of one program", 1)
SHARD = flags.DEFINE_string("shard", "0/1", "i/n: trains the i-th of n parts")
ENGINE = flags.DEFINE_enum("engine", "local", list(ENGINES), "where programs run")
ADDRESS = flags.DEFINE_string("address", "auto", "of the Ray cluster")


def main(argv: list[str]) -> None:
    """Trains the points that are not finished and prints the table."""
    if len(argv) > 1:
        sys.exit(f"sweep.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.WARNING)
    try:
        base = base_config()
        study = search(base) if SAMPLER.value == "optuna" else sweep(base)
        table = collect(study)
        if len(table) < len(study.trials):
            print(f"{len(table)} of {len(study.trials)} runs are finished.")
            return
        lines = compare(table, study.directory)
        write_atomically(study.directory / "table.md", markdown(lines))
        show(lines, Console())
        print(f"results in {study.directory / 'results.parquet'}")
    except (ValueError, FloatingPointError, Stopped) as error:
        sys.exit(f"sweep.py: {error}")


def base_config() -> Config:
    """The flags' configuration, canonical, JAX being set up for its members."""
    base = set_up(canonical(given_config()), place())
    return replace(base, seeds="", mesh="", workdir="")


def sweep(base: Config) -> Study:
    """Trains the shard's part of all points."""
    samples = draw(SAMPLER.value, parse_space(SPACE.value), SAMPLES.value, base.seed)
    study = study_of(base, samples)
    train(study, shard(pending(study, MEMBERS.value), SHARD.value))
    return study


def search(base: Config) -> Study:
    """Asks for points, trains them, and says what came of them, until all are there."""
    if not base.validation_examples or SHARD.value != "0/1":
        raise ValueError(
            "--sampler=optuna: expected --validation_examples above 0, since the test "
            "set chooses nothing, and no --shard."
        )
    space = parse_space(SPACE.value)
    study = study_of(base, [])
    claim(study)
    found = open_search(study.directory, base.seed)
    while (done := len(answered(found))) < SAMPLES.value:
        asked = ask(found, space, min(BATCH.value, SAMPLES.value - done))
        study = study_of(base, list(asked.values()))
        train(study, pending(study, MEMBERS.value))
        for number, sample in asked.items():
            tell(found, number, validation_loss(study, arm_of(base, sample)))
    study = study_of(base, answered(found))
    train(study, pending(study, MEMBERS.value))
    return study


def train(study: Study, tasks: list) -> None:
    """Trains tasks of a study with the engine that the flags name."""
    claim(study)
    run_tasks(tasks, study.directory, ENGINE.value, ADDRESS.value)


def validation_loss(study: Study, arm: Arm) -> float:
    """The mean over seeds of the loss on the examples held out."""
    rows = [
        outcome(trial, study.directory, 0.0)
        for trial in study.trials
        if trial.arm == arm.name
    ]
    return sum(row["validation_loss"] for row in rows) / len(rows)


def study_of(base: Config, samples: list[Sample]) -> Study:
    """The study of some points, each an arm of its own; the baseline is the first."""
    baseline = Arm("baseline", config_of(base, {"dropout": BASELINE.value}))
    arms = {arm.name: arm for arm in (arm_of(base, sample) for sample in samples)}
    name = f"{Path(base.dataset).stem}-{base.model.partition('(')[0]}"
    return Study(
        QUESTION.value or f"Where in {SPACE.value} is {PLAN.value} best?",
        [baseline, *arms.values()],
        parse_seeds(str(flags.FLAGS["seeds"].value)),
        Path(flags.FLAGS["workdir"].value or f"runs/sweep-{name}"),
        TARGET.value,
        shlex.join(["python", *sys.argv]),
    )


def arm_of(base: Config, sample: Sample) -> Arm:
    """The arm of a point: its plan, and its flags."""
    plan, values = fill(PLAN.value or base.dropout, sample)
    name = " ".join([plan, *(f"--{flag}={value}" for flag, value in values.items())])
    return Arm(name, config_of(base, {"dropout": plan, **values}))


def config_of(base: Config, values: dict[str, str]) -> Config:
    """The base with flags in place of its own, and no workdir."""
    return replace(canonical(changed(base, values)), workdir="")


if __name__ == "__main__":
    app.run(main)
