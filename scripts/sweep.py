"""Tunes plans and flags alike on held-out examples, and tests its choices once.

    python scripts/sweep.py --plan='{sites}:{variant}:{rate}' \\
        --space='sites=fc, conv*; variant=bernoulli, gaussian; rate=0.1..0.7/4' \\
        --validation_examples=200
    python scripts/sweep.py --plan='fc:bernoulli:{rate}' --validation_examples=200 \\
        --space='rate=0..0.8; learning_rate=log(1e-4..1e-2)' --sampler=optuna

A name of --space that is in --plan is part of the plan; any other name is a flag. Each
combination of texts in the plan, and --baseline, is tuned alike: over all flags and its
own numbers, with the same number of points (in a grid: with the same values of the
flags). For each, the point with the lowest loss on held-out examples, as a mean over
--seeds, is chosen. These points are then trained at --test_seeds, which were not used
to choose, and compared with the tuned baseline on the test set. `--select=none` chooses
nothing and shows all points without any test.

The samplers are grid, random, sobol, and optuna, which learns from the losses. All
points and losses are in `tuning.csv`, and in `optuna.db`, an SQLite file in --workdir
that Optuna's dashboard shows. All flags of train.py hold for every point. Points that
differ only in seed, rate, learning rate or weight decay train in one program.
`--shard=i/n` trains part i of n, counted from 0; the parts share --workdir and may run
in any order and on any machine; run them again to train their parts of the test.
--engine=ray spreads the programs over a cluster.
"""

from absl import flags

from studies.flags import define_study_flags, given_study_request
from studies.space import SAMPLERS
from studies.sweep import Sweep, sweep_study
from training.flags import define_config_flags
from training.members import parse_seeds
from training.runtime.main import run_main

define_config_flags()
define_study_flags(seeds="0:2")
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
    "samples", 16, "number of points for each plan (--sampler=grid ignores it)", 1
)
BATCH = flags.DEFINE_integer(
    "batch", 4, "number of points that optuna suggests at a time", 1
)
BASELINE = flags.DEFINE_string(
    "baseline", "none", "plan that is tuned over the flags, to compare others with"
)
SELECT = flags.DEFINE_enum(
    "select",
    "validation",
    ["validation", "none"],
    "how to choose the points to test: by the loss on held-out examples, or not at all",
)
TEST_SEEDS = flags.DEFINE_string(
    "test_seeds", "1000:1008", "seeds of the test, none of which is in --seeds"
)
SHARD = flags.DEFINE_string(
    "shard", "0/1", "part of the study to train: i/n is part i of n, counted from 0"
)


def main(arguments: list[str]) -> None:
    """Train the unfinished runs, and print what was chosen and the table."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")
    tested = SELECT.value == "validation"
    sweep = Sweep(
        PLAN.value,
        SPACE.value,
        SAMPLER.value,
        SAMPLES.value,
        BATCH.value,
        BASELINE.value,
        parse_seeds(TEST_SEEDS.value, "test_seeds") if tested else (),
        SHARD.value,
    )
    sweep_study(sweep, given_study_request())


if __name__ == "__main__":
    run_main(main)
