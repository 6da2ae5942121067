"""When something is due in a run: the steps between two events of each kind."""

from typing import NamedTuple

from dropout import Timeline
from training.experiment import Experiment
from training.options import NEVER_STEPS


class Periods(NamedTuple):
    """The steps between two events of each kind."""

    log: int
    validate: int
    test: int
    save: int


def periods_of(experiment: Experiment) -> Periods:
    """Return the steps between two events of a run; it validates after each epoch."""
    config = experiment.config
    every = (config.log_every, 0, config.test_every, config.save_every)
    return Periods(*(period_of(steps, experiment.timeline) for steps in every))


def period_of(every: int, timeline: Timeline) -> int:
    """Return the steps between two events: an epoch for 0, the whole run for never."""
    if every == NEVER_STEPS:
        return timeline.total
    return every or timeline.steps_per_epoch


def next_stop(periods: Periods, total: int, done: int) -> int:
    """Return the first step after `done` after which something is due."""
    return min(total, *((done // every + 1) * every for every in periods))
