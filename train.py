"""Trains a network with dropout chosen by flags.

python train.py --dataset=digits --dropout='conv*:bernoulli:0.1 fc:bernoulli:0.5'
"""

from pathlib import Path

from absl import flags

from training.canonical import canonical
from training.experiment import prepare
from training.flags import define_config_flags, given_config, given_launch
from training.record.console import describe, result_line
from training.run import run
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main
from training.runtime.processes import by_leader

define_config_flags()
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "print the resolved plan and the size of the run, and end"
)


def main(arguments: list[str]) -> None:
    """Read the flags, train, and print the result."""
    expect_no_arguments(arguments)
    experiment = prepare(set_up(canonical(given_config()), given_launch()))
    say(describe(experiment))
    if not DRY_RUN.value:
        say(result_line(run(experiment), Path(experiment.config.workdir)))


@by_leader
def say(text: str) -> None:
    """Print, in the first of several processes."""
    print(text, flush=True)


if __name__ == "__main__":
    run_main(main)
