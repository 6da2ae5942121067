"""Estimates a trained network's batch norm statistics anew, with dropout off.

    python scripts/recalibrate.py WORKDIR

Prints, for each norm, its running variance over the variance that it meets without
dropout, and what the test scores are with both; writes `recalibrated.json` in WORKDIR.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from absl import app, logging

from models.convolution import compiler_options
from training.experiment import prepare
from training.norm_statistics import (
    make_batch_statistics,
    statistics_over,
    variance_shift,
)
from training.runtime.checkpoints import restore
from training.scoring import make_evaluate_batch, scores_on


def main(argv: list[str]) -> None:
    """Reads the workdir; usage errors are one line."""
    logging.set_verbosity(logging.WARNING)
    if len(argv) != 2:
        sys.exit("recalibrate.py: expected one argument, the workdir of a run.")
    logging.set_verbosity(logging.FATAL)
    try:
        recalibrate(Path(argv[1]))
    except ValueError as error:
        sys.exit(f"recalibrate.py: {error}")


def recalibrate(workdir: Path) -> dict:
    """What the statistics of a run are without dropout, and what they gain.

    Raises:
        ValueError: no run is there, or its network has no batch norm.
    """
    config, state = restore(str(workdir))
    experiment = prepare(config)
    if experiment.members or not state.stats:
        raise ValueError(
            f"{workdir}: expected one run of a network with batch norm, and not "
            f"--model={config.model}{' --seeds' if experiment.members else ''}."
        )
    statistics = jax.jit(
        make_batch_statistics(experiment.objective),
        compiler_options=compiler_options(),
    )
    train = experiment.data.train
    met = statistics_over(statistics, state, train, experiment.train_ids)
    shifts = {n: float(v) for n, v in variance_shift(state.stats, met).items()}
    scores = [_test(experiment, s) for s in (state, state._replace(stats=met))]
    found = {"variance_shift": shifts, "before": scores[0], "after": scores[1]}
    (workdir / "recalibrated.json").write_text(json.dumps(found, indent=2) + "\n")
    for name, shift in shifts.items():
        print(f"{name}: running variance {shift:.3f} of that without dropout")
    for name, quantity in (("accuracy", "{:.2%}"), ("loss", "{:.4f}")):
        values = [quantity.format(score[name]) for score in scores]
        print(f"test {name}: {values[0]} before, {values[1]} recalibrated")
    return found


def _test(experiment, state) -> dict[str, float]:
    """The scores on the test split."""
    evaluate = jax.jit(
        make_evaluate_batch(experiment.objective), compiler_options=compiler_options()
    )
    test = experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    (scores,) = scores_on(experiment, evaluate, state, test, ids)
    return {"loss": scores.loss, "accuracy": scores.accuracy}


if __name__ == "__main__":
    app.run(main)
