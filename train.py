"""Trains a network, with dropout where and when the flags say.

python train.py --dataset=digits --dropout='conv*:bernoulli:0.1 fc:bernoulli:0.5'
"""

import sys
from pathlib import Path

from absl import flags

from training.canonical import canonical
from training.experiment import prepare
from training.flags import define_config_flags, given_config, given_launch
from training.record.console import describe, result_line
from training.record.demand import demand
from training.record.recorder import silent
from training.run import run
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main
from training.runtime.processes import by_leader

define_config_flags()
DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "print the resolved plan, the size of the run and what it will take, and end",
)


def main(arguments: list[str]) -> None:
    """Read the flags, train, and print the result."""
    expect_no_arguments(arguments)
    experiment = prepare(set_up(canonical(given_config()), given_launch()))
    say(describe(experiment))
    if DRY_RUN.value:
        say("\n".join(demand(experiment)))
    else:
        # A terminal shows the bar; a file gets a line after each epoch.
        summary = run(experiment, silent if sys.stdout.isatty() else say)
        say(result_line(summary, Path(experiment.config.workdir)))


@by_leader
def say(text: str) -> None:
    """Print, in the first of several processes."""
    print(text, flush=True)


if __name__ == "__main__":
    run_main(main)
