"""The final results of a run: its summary."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from training.config import Config
from training.dropout_parameters import compression
from training.experiment import Experiment, mask_key, of_run
from training.lines import frozen_members
from training.members import Member
from training.own_files import file_digests
from training.record.digests import digest, masks_digest
from training.record.files import write_atomically
from training.record.metrics_log import finite
from training.record.versions import circumstances
from training.runtime.devices import gathered
from training.runtime.processes import by_leader
from training.scoring import Scores, average_scores, scores_on
from training.state import State, Totals

Summary = dict[str, Any]

# Of a population, the results whose means over its members are recorded, too.
MEANS = (
    "train_accuracy", "train_loss", "test_accuracy", "test_loss", "test_ema_accuracy",
    "test_ema_loss",
)  # fmt: skip


def results_of(
    experiment: Experiment, evaluate: Callable[..., Totals], state: State
) -> Summary:
    """Return the results of a run or population: its scores and digests."""
    config = experiment.config
    results = {
        "dropout": config.dropout,
        "bits": config.bits,
        "convolution": config.convolution,
        **circumstances(experiment.mesh),
        **files_of(config),
    }
    runs = _run_results(experiment, evaluate, state)
    if not experiment.members:
        return {**runs[0], **results}
    together = _together(runs, frozen_members(experiment, state))
    return {**together, **results}


def files_of(config: Config) -> Summary:
    """Return the digests of the user's own files, if the run depends on any."""
    found = file_digests(config.model, config.plugins, config.init)
    return {"files": found} if found else {}


def pace(experiment: Experiment, steps: int, seconds: float) -> Summary:
    """Return the training examples per second; None where no step was timed."""
    examples = steps * experiment.config.batch_size * len(experiment.runs)
    return {"images_per_second": examples / seconds if examples else None}


def _run_results(
    experiment: Experiment, evaluate: Callable[..., Totals], state: State
) -> list[Summary]:
    """The results of each member, or of the only run."""
    loaded = experiment.data
    test_ids = np.arange(loaded.test.size, dtype=np.int32)
    test = scores_on(experiment, evaluate, state, loaded.test, test_ids)
    average = average_scores(experiment, evaluate, state, loaded.test, test_ids)
    train = [Scores(math.nan, math.nan)] * len(test)
    if experiment.config.evaluate_train:
        ids = experiment.train_ids
        train = scores_on(experiment, evaluate, state, loaded.train, ids)
    state = jax.device_get(gathered(state))
    states = [of_run(experiment, state, i) for i in range(len(experiment.runs))]
    found = [
        {
            "train_accuracy": its_train.accuracy,
            "train_loss": its_train.loss,
            "test_accuracy": its_test.accuracy,
            "test_loss": its_test.loss,
            **{f"test_{name}": value for name, value in its_average.items()},
            "steps": int(its_state.step),
            "skipped": int(its_state.skipped),
            "params_digest": digest(its_state.params),
            "masks_digest": _masks(run),
            **compression(its_state.params, run.objective.learned),
            **{name: getattr(run.config, name) for name in Member._fields},
        }
        for run, its_state, its_train, its_test, its_average in zip(
            experiment.runs, states, train, test, average, strict=True
        )
    ]
    return [finite(results) for results in found]


def _together(members: list[Summary], frozen: set[int]) -> Summary:
    """The means over the members that are not frozen, and the results of all."""
    numbered = [{"member": i, **member} for i, member in enumerate(members)]
    going_on = [member for member in numbered if member["member"] not in frozen]
    means = {
        name: _mean([member[name] for member in going_on])
        for name in MEANS
        if name in numbered[0]
    }
    return {
        **finite(means),
        "steps": members[0]["steps"],
        "frozen": sorted(frozen),
        "members": numbered,
    }


def _mean(values: list[float | None]) -> float:
    """The mean, which is NaN of no values, or where one is missing."""
    known = [math.nan if value is None else value for value in values]
    return float(np.mean(known or math.nan))


def _masks(experiment: Experiment) -> str:
    return masks_digest(
        experiment.rows,
        experiment.timeline,
        mask_key(experiment),
        experiment.objective.run_key,
        experiment.objective.bits,
    )


@by_leader
def write_summary(workdir: Path, summary: Summary) -> None:
    """Write `summary.json`."""
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    write_atomically(workdir / "summary.json", text)
