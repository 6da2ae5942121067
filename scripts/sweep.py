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

import sys
from dataclasses import replace
from pathlib import Path

from absl import app, flags, logging

from scripts import study_flags
from scripts.study_flags import MEMBERS, base_config, show_table, study_of, train
from studies.arms import Arm, changed
from studies.outcomes import outcome
from studies.search import answered, ask, open_search, tell
from studies.space import SAMPLERS, Sample, draw, fill, parse_space
from studies.study import Study, claim, collect, pending
from training.config import Config, canonical
from training.runtime.signals import Stopped

flags.adopt_module_key_flags(study_flags)
flags.FLAGS.set_default("seeds", "0:4")
PLAN = flags.DEFINE_string("plan", "", "a plan with {names} of the space in it")
SPACE = flags.DEFINE_string("space", "rate=0.1..0.7", "name=a, b; name=low..high; ...")
SAMPLER = flags.DEFINE_enum(
    "sampler", "grid", [*SAMPLERS, "optuna"], "how points are drawn"
)
SAMPLES = flags.DEFINE_integer("samples", 16, "points, but for a grid", 1)
BATCH = flags.DEFINE_integer("batch", 4, "points that optuna asks for together", 1)
BASELINE = flags.DEFINE_string("baseline", "none", "the plan that all are compared to")
SHARD = flags.DEFINE_string("shard", "0/1", "i/n: trains the i-th of n parts")


def main(argv: list[str]) -> None:
    """Trains the points that are not finished and prints the table."""
    if len(argv) > 1:
        sys.exit(f"sweep.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.FATAL)
    try:
        base = base_config()
        study = search(base) if SAMPLER.value == "optuna" else sweep(base)
        table = collect(study)
        if len(table) < len(study.trials):
            print(f"{len(table)} of {len(study.trials)} runs are finished.")
            return
        show_table(study, table)
    except (ValueError, FloatingPointError, Stopped) as error:
        sys.exit(f"sweep.py: {error}")


def sweep(base: Config) -> Study:
    """Trains the shard's part of all points."""
    samples = draw(SAMPLER.value, parse_space(SPACE.value), SAMPLES.value, base.seed)
    study = study_at(base, samples)
    train(study, pending(study, MEMBERS.value, SHARD.value))
    return study


def search(base: Config) -> Study:
    """Asks for points, trains them, and says what came of them, until all are there."""
    if not base.validation_examples or SHARD.value != "0/1":
        raise ValueError(
            "--sampler=optuna: expected --validation_examples above 0, since the test "
            "set chooses nothing, and no --shard."
        )
    space = parse_space(SPACE.value)
    study = study_at(base, [])
    claim(study)
    found = open_search(study.directory, base.seed)
    while (done := len(answered(found))) < SAMPLES.value:
        asked = ask(found, space, min(BATCH.value, SAMPLES.value - done))
        study = study_at(base, list(asked.values()))
        train(study, pending(study, MEMBERS.value))
        for number, sample in asked.items():
            tell(found, number, validation_loss(study, arm_of(base, sample)))
    study = study_at(base, answered(found))
    train(study, pending(study, MEMBERS.value))
    return study


def validation_loss(study: Study, arm: Arm) -> float:
    """The mean over seeds of the loss on the examples held out."""
    rows = [
        outcome(trial, study.directory, 0.0)
        for trial in study.trials
        if trial.arm == arm.name
    ]
    return sum(row["validation_loss"] for row in rows) / len(rows)


def study_at(base: Config, samples: list[Sample]) -> Study:
    """The study of some points, each an arm of its own; the baseline is the first."""
    baseline = Arm("baseline", config_of(base, {"dropout": BASELINE.value}))
    arms = {arm.name: arm for arm in (arm_of(base, sample) for sample in samples)}
    name = f"{Path(base.dataset).stem}-{base.model.partition('(')[0]}"
    question = f"Where in {SPACE.value} is {PLAN.value} best?"
    return study_of([baseline, *arms.values()], question, f"runs/sweep-{name}")


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
