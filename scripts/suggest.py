"""Suggests a dropout plan for a model and a data set, from a small study.

    python scripts/suggest.py --dataset=mine.npz --model=cnn --minutes=5

The candidates are common plans for the network's sites. At each further seed, the half
with the lower loss on held-out training examples stays; a fifth of the examples is held
out, or --validation_examples. The last plan is compared with no dropout on the test
split, at seeds that were not used to choose it, until the time is over. If no
difference is found, the last line says so. All other flags are those of train.py.
"""

from dataclasses import replace

from absl import flags
from rich.console import Console

from studies.suggestion import (
    sentence,
    starting_point,
    suggest,
    suggestion_directory,
)
from studies.tables import show
from training.canonical import canonical
from training.flags import define_config_flags, given_config, given_launch
from training.record.files import make_directory
from training.runtime.compilation import set_up
from training.runtime.main import run_main

define_config_flags()
MINUTES = flags.DEFINE_float("minutes", 5.0, "minutes that the study may take", 0.1)


def main(arguments: list[str]) -> None:
    """Run the study and print the suggested plan."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")
    given = given_config()
    config = set_up(canonical(replace(given, dropout="none")), given_launch())
    base, plans = starting_point(config, given.mesh)
    directory = make_directory("workdir", given.workdir or suggestion_directory(config))
    plan, lines = suggest(base, plans, 60 * MINUTES.value, directory)
    show(lines, Console())
    print(sentence(plan, lines))


if __name__ == "__main__":
    run_main(main)
