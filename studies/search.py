"""Optuna's search, which learns from losses and is stored in SQLite.

A search that is stopped, at any point, asks for the same samples as one that is not:
what it draws is a function of the seed, of a sample's number and of the losses told.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import TrialState

from studies.space import Choices, Range, Sample, Space
from training.record.files import Damaged


def open_search(directory: Path, name: str = "search") -> optuna.Study:
    """Open the search of that name in `optuna.db`, or start a new one there.

    Raises:
        Damaged: the file is no database of a search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = directory / "optuna.db"
    try:
        return optuna.create_study(
            storage=f"sqlite:///{path}", study_name=name, load_if_exists=True
        )
    except Exception as error:  # Of SQLAlchemy, SQLite and optuna.
        reason = str(error).partition("\n")[0]
        raise Damaged(
            f"{path} is damaged ({reason}). Move it away and rerun the command: the "
            "search starts anew, and takes finished runs as they are."
        ) from error


def ask(
    search: optuna.Study, space: Space, batch: int, most: int, seed: int
) -> dict[int, Sample]:
    """Return the samples of a batch by number: those whose loss was never told.

    Args:
        search: the search.
        space: what is sampled.
        batch: samples of a batch.
        most: samples of the whole search.
        seed: the seed of the search.
    """
    _give_up_incomplete(search, space)
    states = [trial.state for trial in search.get_trials()]
    running = [n for n, state in enumerate(states) if state == TrialState.RUNNING]
    # A batch that was begun before a stop is made whole before the next one.
    batches = (len(states) - bool(running)) // batch + 1
    end = min(batch * batches, most + states.count(TrialState.FAIL))
    for number in range(len(states), end):
        _add(search, space, seed + number)
    asked = search.get_trials(states=(TrialState.RUNNING,))
    return {trial.number: _sample(trial) for trial in asked}


def tell(search: optuna.Study, number: int, loss: float) -> None:
    """Tell the search the loss of a sample."""
    search.tell(number, loss)


def completed(search: optuna.Study) -> list[Sample]:
    """Return all samples whose loss is known."""
    return [_sample(t) for t in search.get_trials(states=(TrialState.COMPLETE,))]


def record_points(
    search: optuna.Study, space: Space, losses: Sequence[tuple[Sample, float]]
) -> None:
    """Add points that no search has asked for, with their losses, once each."""
    known = completed(search)
    distributions = {name: _distribution(d) for name, d in space.items()}
    for sample, loss in losses:
        if sample in known:
            continue
        values = {name: _within(space[name], text) for name, text in sample.items()}
        search.add_trial(
            optuna.trial.create_trial(
                params=values, distributions=distributions, value=loss
            )
        )


def _distribution(dimension: Choices | Range) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    low, high = dimension.low, dimension.high
    return FloatDistribution(low, high, log=dimension.logarithmic)


def _within(dimension: Choices | Range, text: str) -> str | float:
    """Return a value, which rounding to a text may have moved out of its range."""
    if isinstance(dimension, Choices):
        return text
    return min(max(float(text), dimension.low), dimension.high)


def _add(search: optuna.Study, space: Space, seed: int) -> None:
    """Draw a sample from what is known, and add it to the search whole or not at all.

    It is drawn in a copy in memory: in the file a stop would leave half of a sample.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    copy = optuna.create_study(sampler=sampler)
    copy.add_trials(search.get_trials())
    trial = copy.ask()
    for name, dimension in space.items():
        _suggest(trial, name, dimension)
    drawn = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
    )
    search.add_trial(drawn)


def _give_up_incomplete(search: optuna.Study, space: Space) -> None:
    """Give up samples that lack a name of the space, as one of another space does."""
    for trial in search.get_trials(states=(TrialState.RUNNING,)):
        if trial.params.keys() != space.keys():
            search.tell(trial.number, state=TrialState.FAIL)


def _sample(trial: optuna.trial.FrozenTrial) -> Sample:
    return {name: _text(value) for name, value in trial.params.items()}


def _suggest(trial: optuna.Trial, name: str, dimension: Choices | Range) -> str | float:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(name, dimension.values)
    return trial.suggest_float(
        name, dimension.low, dimension.high, log=dimension.logarithmic
    )


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
