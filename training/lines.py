"""The lines that a run logs as it goes: for training, validation and test."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from dropout import rows_at
from training.dropout_parameters import rates_of
from training.experiment import Experiment, of_run
from training.network import Tree
from training.norm_statistics import statistics_over, variance_shift
from training.objective import mean_penalty
from training.programs import Programs
from training.runtime.devices import gathered
from training.scoring import Scores, average_scores, scores_of, scores_on
from training.state import State, Totals
from training.telemetry import figures


class Line(NamedTuple):
    """The values of one run of a population, or of the only run, at a step.

    Attributes:
        number: the index of the run in `experiment.runs`.
    """

    step: int
    split: str
    number: int
    values: dict[str, float | int]


def training_lines(experiment: Experiment, state: State, step: int) -> list[Line]:
    """Return the means over the steps since the last training line."""
    lines, state = [], gathered(state)
    for number, scores in _going_on(experiment, state, scores_of(state.totals)):
        params, skipped = of_run(experiment, (state.params, state.skipped), number)
        others = dropout_values(experiment.runs[number], params, step - 1)
        seen = of_run(experiment, state.telemetry, number)
        others |= {name: float(value) for name, value in figures(seen).items()}
        others["skipped"] = int(skipped)
        lines.append(_line(step, "train", number, scores, others))
    return lines


def validation_lines(
    experiment: Experiment, evaluate: Callable[..., Totals], state: State, step: int
) -> list[Line]:
    """Return the scores on the held-out examples, or no line if there are none."""
    ids = experiment.validation_ids
    if not ids.size:
        return []
    held_out = experiment.data.train, ids
    scores = scores_on(experiment, evaluate, state, *held_out)
    averages = average_scores(experiment, evaluate, state, *held_out)
    return [
        _line(step, "validation", number, its_scores, averages[number])
        for number, its_scores in _going_on(experiment, state, scores)
    ]


def test_lines(
    experiment: Experiment, programs: Programs, state: State, step: int
) -> list[Line]:
    """Return the scores on the test split, and the variance shifts if watched."""
    test = experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    scores = scores_on(experiment, programs.evaluate, state, test, ids)
    averages = average_scores(experiment, programs.evaluate, state, test, ids)
    return [
        _line(
            step,
            "test",
            number,
            its_scores,
            averages[number]
            | variance_shifts(experiment, programs, state, number, ids),
        )  # fmt: skip
        for number, its_scores in _going_on(experiment, state, scores)
    ]


def variance_shifts(
    experiment: Experiment,
    programs: Programs,
    state: State,
    number: int,
    ids: Int32[np.ndarray, " n"],
) -> dict[str, float]:
    """Return the variance shift of each norm of a run on test examples, if watched."""
    if programs.statistics is None:
        return {}
    state = of_run(experiment, gathered(state), number)
    statistics = partial(programs.statistics, number)
    met = statistics_over(statistics, state, experiment.data.test, ids)
    shifts = variance_shift(state.stats, met)
    return {f"variance_shift/{name}": float(shift) for name, shift in shifts.items()}


def dropout_values(experiment: Experiment, params: Tree, step: int) -> dict[str, float]:
    """Return the rate of each site, scheduled or learned, and the mean regulariser."""
    objective = experiment.objective
    rows = rows_at(experiment.rows, step, experiment.timeline)
    rates = {row.site: row.rate for row in rows}
    rates |= rates_of(params, objective.learned)
    values = {f"rate/{site}": rate for site, rate in rates.items()}
    if objective.learned:
        values["penalty"] = mean_penalty(objective, params, jnp.int32(step))
    return {name: float(value) for name, value in values.items()}


def frozen_members(experiment: Experiment, state: State) -> set[int]:
    """Return the members that no longer change, after a step that was not finite."""
    if not experiment.members or experiment.config.on_nan != "stop":
        return set()
    return set(np.flatnonzero(gathered(state.skipped)).tolist())


def _going_on(
    experiment: Experiment, state: State, scores: list[Scores]
) -> list[tuple[int, Scores]]:
    """The scores of the runs that are not frozen, by their number."""
    frozen = frozen_members(experiment, state)
    return [item for item in enumerate(scores) if item[0] not in frozen]


def _line(
    step: int, split: str, number: int, scores: Scores, others: dict[str, float | int]
) -> Line:
    values = {"loss": scores.loss, "accuracy": scores.accuracy, **others}
    return Line(step, split, number, values)
