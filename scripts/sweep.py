"""Trains points of a space of plans and flags, and compares them with a baseline.

    python scripts/sweep.py --plan='{sites}:{variant}:{rate}' \\
        --space='sites=fc, conv*; variant=bernoulli, gaussian; rate=0.1..0.7/4'
    python scripts/sweep.py --plan='fc:bernoulli:{rate}' --validation_examples=200 \\
        --space='rate=0..0.8; learning_rate=log(1e-4..1e-2)' --sampler=optuna

The samplers are grid, random, sobol, and optuna, which learns from the loss on
validation examples and keeps its trials in `optuna.db`, an SQLite file in --workdir.
All flags of train.py hold for every point. Points that differ only in seed, rate,
learning rate or weight decay train in one program. The first arm is --baseline.
`--shard=i/n` trains the i-th of n parts; the parts share --workdir and may run in any
order and on any machine. --engine=ray spreads the programs over a cluster.
"""

from absl import flags

from studies.flags import define_study_flags, given_study_request
from studies.space import SAMPLERS
from studies.study import collect, show_table
from studies.sweep import Sweep, train_sweep
from training.flags import define_config_flags
from training.runtime.main import run_main

define_config_flags()
define_study_flags(seeds="0:4")
PLAN = flags.DEFINE_string(
    "plan", "", "plan that contains {names} of --space (default: --dropout)"
)
SPACE = flags.DEFINE_string(
    "space",
    "rate=0.1..0.7",
    "space to sample, written name=a, b; name=low..high; name=log(low..high)",
)
SAMPLER = flags.DEFINE_enum(
    "sampler", "grid", [*SAMPLERS, "optuna"], "sampler of the points"
)
SAMPLES = flags.DEFINE_integer(
    "samples", 16, "number of points, which --sampler=grid ignores", 1
)
BATCH = flags.DEFINE_integer(
    "batch", 4, "number of points that optuna suggests at a time", 1
)
BASELINE = flags.DEFINE_string(
    "baseline", "none", "plan with which every point is compared"
)
SHARD = flags.DEFINE_string("shard", "0/1", "part of the study to train, i of n as i/n")


def main(arguments: list[str]) -> None:
    """Train the unfinished points and print the table."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")
    sweep = Sweep(
        PLAN.value,
        SPACE.value,
        SAMPLER.value,
        SAMPLES.value,
        BATCH.value,
        BASELINE.value,
        SHARD.value,
    )
    study = train_sweep(sweep, given_study_request())
    table = collect(study)
    if len(table) < len(study.trials):
        print(f"{len(table)} of {len(study.trials)} runs are finished.")
    else:
        show_table(study, table)


if __name__ == "__main__":
    run_main(main)
