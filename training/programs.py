"""The compiled programs of a run or population: its step, its test, its statistics."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Array

from training.data.batches import batch_ids, make_batch
from training.experiment import Experiment, of_run
from training.network import Tree
from training.population import (
    MemberStep,
    TracedMember,
    experiment_step,
    make_member_evaluate,
    make_member_statistics,
    map_members,
    traced_members,
)
from training.runtime.compilation import compiled
from training.scoring import make_evaluate_batch
from training.state import Batch, State, Totals
from training.step import Metrics


class Programs(NamedTuple):
    """The functions that a run calls, with the values of the members bound.

    Attributes:
        evaluate: (state, images, labels, weights) -> sums over a batch.
        statistics: (number of the run, its state, images, weights) -> the statistics of
            its batch norms' inputs at test; None if nothing asks for them.
    """

    step: Callable[[State, Batch], tuple[State, Metrics]]
    evaluate: Callable[..., Totals]
    statistics: Callable[[int, State, Array, Array], Tree] | None


def compile_step(experiment: Experiment, state: State) -> tuple[MemberStep, list[None]]:
    """Return the compiled training step, and a list that grows at each trace of it."""
    traces: list[None] = []
    batch = make_batch(experiment, *next(batch_ids(experiment, 0)))
    step = experiment_step(experiment, lambda: traces.append(None))
    lowered = compiled(step, donate=(0,)).lower(
        state, batch, traced_members(experiment)
    )
    return lowered.compile(), traces


def programs_of(experiment: Experiment, step: MemberStep) -> Programs:
    """Return the programs of a run, of which the step is compiled already."""
    members = traced_members(experiment)

    def bound_step(state: State, batch: Batch) -> tuple[State, Metrics]:
        return step(state, batch, members)

    return Programs(
        bound_step, _evaluate(experiment, members), _statistics(experiment, members)
    )


def _evaluate(experiment: Experiment, members: TracedMember) -> Callable[..., Totals]:
    if not experiment.members:
        return compiled(make_evaluate_batch(experiment.objective))
    evaluate = make_member_evaluate(experiment.objective)
    mapped = compiled(map_members(evaluate, experiment.mesh))
    return partial(mapped, members)


def _statistics(
    experiment: Experiment, members: TracedMember
) -> Callable[..., Tree] | None:
    """What telemetry asks batch norms at test; None where there are none to ask."""
    if not experiment.network.stats or not experiment.config.telemetry:
        return None
    statistics = compiled(make_member_statistics(experiment.objective))
    return lambda number, *arrays: statistics(
        of_run(experiment, members, number), *arrays
    )
