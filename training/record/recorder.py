"""What a run writes of itself on the way: training, validation and test lines."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from dropout import rows_at
from training.dropout_parameters import rates_of
from training.experiment import Experiment, of_run
from training.network import Tree
from training.norm_statistics import statistics_over, variance_shift
from training.objective import mean_penalty
from training.record.curves import plot_run
from training.record.metrics_log import append_line
from training.scoring import Scores, scores_of, scores_on
from training.session import Session
from training.state import State
from training.telemetry import figures

SECONDS_BETWEEN_PLOTS = 30.0


def log_training(session: Session, state: State, step: int) -> None:
    """Write the means since the last training line."""
    experiment = session.experiment
    for number, scores in _going_on(session, state, scores_of(state.totals)):
        params, skipped = of_run(experiment, (state.params, state.skipped), number)
        others = dropout_values(experiment.runs[number], params, step - 1)
        seen = of_run(experiment, state.telemetry, number)
        others |= {name: float(value) for name, value in figures(seen).items()}
        others["skipped"] = int(skipped)
        _write(session, step, "train", number, scores, others)


def log_validation(session: Session, state: State, step: int) -> None:
    """Writes the scores on the examples held out from training, if there are any."""
    ids = session.experiment.validation_ids
    if ids.size:
        train = session.experiment.data.train
        scores = scores_on(session.experiment, session.evaluate, state, train, ids)
        for number, its_scores in _going_on(session, state, scores):
            _write(session, step, "validation", number, its_scores, {})


def log_test(session: Session, state: State, step: int) -> None:
    """Writes the scores on the test split."""
    test = session.experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    scores = scores_on(session.experiment, session.evaluate, state, test, ids)
    for number, its_scores in _going_on(session, state, scores):
        shifts = variance_shifts(session, state, number, ids)
        _write(session, step, "test", number, its_scores, shifts)
    # A picture takes a third of a second, and short runs have it at their end.
    if time.monotonic() - session.plotted > SECONDS_BETWEEN_PLOTS:
        plot_run(session.workdir, session.experiment.config)
        session.plotted = time.monotonic()


def variance_shifts(
    session: Session, state: State, number: int, ids: Int32[np.ndarray, " n"]
) -> dict[str, float]:
    """The variance shift of each norm of a run on the test split, if it is watched."""
    if session.statistics is None:
        return {}
    experiment = session.experiment
    state, settings = of_run(experiment, (state, session.settings), number)
    statistics = partial(session.statistics, settings)
    met = statistics_over(statistics, state, experiment.data.test, ids)
    shifts = variance_shift(state.stats, met)
    return {f"variance_shift/{name}": float(shift) for name, shift in shifts.items()}


def dropout_values(experiment: Experiment, params: Tree, step: int) -> dict[str, float]:
    """The rate at each site, at a step or as learned, and the mean regulariser."""
    objective = experiment.objective
    rows = rows_at(experiment.rows, step, experiment.timeline)
    rates = {row.site: row.rate for row in rows}
    rates |= rates_of(params, objective.learned)
    values = {f"rate/{site}": rate for site, rate in rates.items()}
    if objective.learned:
        values["penalty"] = mean_penalty(objective, params, jnp.int32(step))
    return {name: float(value) for name, value in values.items()}


def frozen_members(experiment: Experiment, state: State) -> set[int]:
    """The members that stay as they are since a step of theirs was not finite."""
    if not experiment.members or experiment.config.on_nan != "stop":
        return set()
    return set(np.flatnonzero(jax.device_get(state.skipped)).tolist())


def _going_on(
    session: Session, state: State, scores: list[Scores]
) -> list[tuple[int, Scores]]:
    """The scores of the runs that are not frozen, by their number."""
    frozen = frozen_members(session.experiment, state)
    return [item for item in enumerate(scores) if item[0] not in frozen]


def _write(
    session: Session,
    step: int,
    split: str,
    number: int,
    scores: Scores,
    others: dict[str, float | int],
) -> None:
    experiment = session.experiment
    seed = experiment.runs[number].config.seed
    member = {"seed": seed, "member": number} if experiment.members else {}
    values = {"loss": scores.loss, "accuracy": scores.accuracy, **others}
    epoch = step / experiment.timeline.steps_per_epoch
    line = {"step": step, "epoch": epoch, "split": split, **member, **values}
    append_line(session.workdir, line)
    tag = f"{split}/member{number}" if experiment.members else split
    session.add_events({f"{tag}/{name}": values[name] for name in values}, step)
