"""Batch-norm statistics, estimated again without dropout, and their effect."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.scores import ScoresByName
from training.experiment import Experiment
from training.norm_statistics import (
    make_batch_statistics,
    statistics_over,
    variance_shift,
)
from training.record.files import write_atomically
from training.record.same_run import check_no_links
from training.restore import restore
from training.runtime.compilation import compiled
from training.scoring import make_evaluate_batch, scores_on
from training.state import State, steps_done


def recalibrate(workdir: str, data_dir: str = "", cache_dir: str = "") -> None:
    """Estimate a run's statistics without dropout; print and write the effect.

    The variance shift of each norm, and the test scores before and after, are written
    to `recalibrated.json` in the workdir.

    Raises:
        ValueError: there is no run, or its network has no batch norm.
    """
    experiment, state = restore(workdir, data_dir, cache_dir)
    if experiment.members or not state.stats:
        raise ValueError(
            f"{workdir}: expected one run of a network with batch norm, and not "
            f"--model={experiment.config.model}"
            f"{' --seeds' if experiment.members else ''}."
        )
    statistics = compiled(make_batch_statistics(experiment.objective))
    train = experiment.data.train
    met = statistics_over(statistics, state, train, experiment.train_ids)
    shifts = {n: float(v) for n, v in variance_shift(state.stats, met).items()}
    before, after = (
        scores_on_test(experiment, each) for each in (state, state._replace(stats=met))
    )
    scores = {"before": before, "after": after}
    found = {"step": steps_done(state), "variance_shift": shifts, **scores}
    check_no_links(Path(workdir))
    text = json.dumps(found, indent=2) + "\n"
    write_atomically(Path(workdir, "recalibrated.json"), text)
    print("\n".join(result_lines(found)))


def result_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines that are printed: each norm's shift, and the scores."""
    shifts = [
        f"{name}: running variance {shift:.3f} times the variance without dropout"
        for name, shift in found["variance_shift"].items()
    ]
    scores = [
        f"test {name}: {text.format(found['before'][name])} before, "
        f"{text.format(found['after'][name])} recalibrated"
        for name, text in (("accuracy", "{:.2%}"), ("loss", "{:.4f}"))
    ]
    return [*shifts, *scores]


def scores_on_test(experiment: Experiment, state: State) -> ScoresByName:
    """Return loss and accuracy on the test split."""
    evaluate = compiled(make_evaluate_batch(experiment.objective))
    test = experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    (scores,) = scores_on(experiment, evaluate, state, test, ids)
    return {"loss": scores.loss, "accuracy": scores.accuracy}
