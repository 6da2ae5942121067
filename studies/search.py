"""Optuna's search, which learns from losses and is stored in an SQLite file."""

import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState

from studies.space import Choices, Sample, Space


def open_search(directory: Path, seed: int) -> optuna.Study:
    """Open the search in `optuna.db`, or start a new one there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{directory / 'optuna.db'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        search = optuna.create_study(
            storage=storage, study_name="search", load_if_exists=True
        )
        # A resumed search must not repeat the first random numbers.
        seed = seed + len(search.trials)
        search.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return search


def ask(search: optuna.Study, space: Space, count: int) -> dict[int, Sample]:
    """Return `count` samples by number, beginning with those that have no loss yet."""
    left = search.get_trials(states=(TrialState.RUNNING,))
    asked = {trial.number: dict(trial.params) for trial in left}
    while len(asked) < count:
        trial = search.ask()
        asked[trial.number] = {
            name: _suggest(trial, name, dimension) for name, dimension in space.items()
        }
    return {
        number: {name: _text(value) for name, value in values.items()}
        for number, values in asked.items()
    }


def tell(search: optuna.Study, number: int, loss: float) -> None:
    """Report the loss of a sample to the search."""
    search.tell(number, loss)


def completed(search: optuna.Study) -> list[Sample]:
    """Return all samples whose loss is known."""
    done = search.get_trials(states=(TrialState.COMPLETE,))
    return [
        {name: _text(value) for name, value in trial.params.items()} for trial in done
    ]


def _suggest(trial: optuna.Trial, name: str, dimension) -> str | float:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(name, dimension.values)
    return trial.suggest_float(
        name, dimension.low, dimension.high, log=dimension.logarithmic
    )


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
