"""What a finished run is found to be: its summary, and its curves."""

import json
import math
import time
from typing import Any

import jax
import numpy as np

from training.dropout_parameters import compression
from training.experiment import Experiment, mask_key, of_run
from training.members import Member
from training.record.curves import plot_run
from training.record.digests import digest, masks_digest
from training.record.files import write_atomically
from training.record.metrics_log import finite
from training.record.recorder import frozen_members
from training.record.versions import circumstances
from training.runtime.processes import by_leader
from training.scoring import scores_on
from training.session import Session
from training.state import State

Summary = dict[str, Any]


def results_of(session: Session, state: State) -> Summary:
    """Return the results of a run or population: scores, pace and digests."""
    experiment, config = session.experiment, session.experiment.config
    examples = session.timed_steps * config.batch_size * len(experiment.runs)
    results = {
        "seconds": time.perf_counter() - session.begin,
        "images_per_second": examples / session.seconds if examples else None,
        "dropout": config.dropout,
        "bits": config.bits,
        **circumstances(experiment.mesh),
    }
    runs = _run_results(session, state)
    if not experiment.members:
        return {**runs[0], **results}
    together = _together(runs, frozen_members(experiment, state))
    return {**together, **results}


def _run_results(session: Session, state: State) -> list[Summary]:
    """The results of each member, or of the only run."""
    experiment, loaded = session.experiment, session.experiment.data
    test_ids = np.arange(loaded.test.size, dtype=np.int32)
    train, test = (
        scores_on(experiment, session.evaluate, state, split, ids)
        for split, ids in (
            (loaded.train, experiment.train_ids),
            (loaded.test, test_ids),
        )
    )
    state = jax.device_get(state)
    states = [of_run(experiment, state, i) for i in range(len(experiment.runs))]
    found = [
        {
            "train_accuracy": its_train.accuracy,
            "train_loss": its_train.loss,
            "test_accuracy": its_test.accuracy,
            "test_loss": its_test.loss,
            "steps": int(its_state.step),
            "skipped": int(its_state.skipped),
            "params_digest": digest(its_state.params),
            "masks_digest": _masks(run),
            **compression(its_state.params, run.objective.learned),
            **{name: getattr(run.config, name) for name in Member._fields},
        }
        for run, its_state, its_train, its_test in zip(
            experiment.runs, states, train, test, strict=True
        )
    ]
    return [finite(results) for results in found]


def _together(members: list[Summary], frozen: set[int]) -> Summary:
    """The means over the members that are not frozen, and the results of all."""
    numbered = [{"member": i, **member} for i, member in enumerate(members)]
    going_on = [member for member in numbered if member["member"] not in frozen]
    means = {
        name: float(np.mean([member[name] for member in going_on] or math.nan))
        for name in ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
    }
    return {
        **finite(means),
        "steps": members[0]["steps"],
        "frozen": sorted(frozen),
        "members": numbered,
    }


def _masks(experiment: Experiment) -> str:
    return masks_digest(
        experiment.rows,
        experiment.timeline,
        mask_key(experiment),
        experiment.objective.bits,
    )


@by_leader
def write_summary(session: Session, summary: Summary) -> None:
    """Write `summary.json`, and the curves of the run's metrics beside it."""
    plot_run(session.workdir, session.experiment.config)
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    write_atomically(session.workdir / "summary.json", text)
