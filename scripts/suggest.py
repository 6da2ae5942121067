"""Suggests a dropout plan for a model and a data set, from a small study.

    python scripts/suggest.py --dataset=mine.npz --model=cnn --minutes=5

Common plans for the network's sites are halved, seed by seed, by the loss on examples
held out of training (a fifth of them, or --validation_examples). What is left is
compared with no dropout on the test split, at seeds that chose nothing, until the
minutes are over. Where no difference is found, the answer says so. All other flags are
those of train.py.
"""

import sys
from dataclasses import replace
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from studies.suggestion import answer, candidates, suggest
from studies.tables import show
from train import given_config, place, set_up
from training.config import Config, canonical
from training.experiment import prepare
from training.record.files import make_directory
from training.runtime.signals import Stopped

MINUTES = flags.DEFINE_float("minutes", 5.0, "what the study may take", 0.1)


def main(argv: list[str]) -> None:
    """Runs the study and prints the answer; usage errors are one line."""
    if len(argv) > 1:
        sys.exit(f"suggest.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.FATAL)
    try:
        config = set_up(canonical(replace(given_config(), dropout="none")), place())
        experiment = prepare(config)
        plans = candidates(experiment.network.sites)
        if not plans:
            raise ValueError(f"--model={config.model}: no common plan has its sites.")
        held_out = config.validation_examples or len(experiment.train_ids) // 5
        directory = make_directory("workdir", directory_of(config))
        base = with_held_out(config, held_out, len(experiment.train_ids))
        plan, lines = suggest(base, plans, 60 * MINUTES.value, directory)
        show(lines, Console())
        print(answer(plan, lines))
    except (ValueError, FloatingPointError, Stopped) as error:
        sys.exit(f"suggest.py: {error}")


def directory_of(config: Config) -> str:
    """--workdir, or a directory of the model and the data."""
    name = f"runs/suggest-{Path(config.dataset).stem}-{config.model.partition('(')[0]}"
    return flags.FLAGS["workdir"].value or name


def with_held_out(config: Config, count: int, examples: int) -> Config:
    """The configuration with `count` of its examples held out of training."""
    if config.validation_examples:
        return replace(config, mesh="", workdir="")
    train = examples - count
    return replace(
        config, validation_examples=count, train_examples=train, mesh="", workdir=""
    )


if __name__ == "__main__":
    app.run(main)
