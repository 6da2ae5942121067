"""The compiled programs of a run or population: its step, its test, its statistics."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import Array

from training.calls import counts, loops, most_steps, orders, single_step, step_loop
from training.data.batches import batch_ids, batches_from, make_batch, one_ahead
from training.data.resident import is_resident, resident
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
from training.runtime.devices import gathered, replicated
from training.scoring import make_evaluate_batch
from training.state import Batch, State, Totals
from training.step import Metrics

Train = Callable[[State, int, int], tuple[State, Metrics]]


class Programs(NamedTuple):
    """The functions that a run calls, with the values of the members bound.

    Attributes:
        train: (state, steps done, steps to take) -> (state, metrics of each step).
        most_steps: the largest number of steps to take in one call.
        evaluate: (state, images, labels, weights) -> sums over a batch.
        statistics: (number of the run, its state, images, weights) -> the statistics of
            its batch norms' inputs at test; None if nothing asks for them.
    """

    train: Train
    most_steps: int
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


def compile_programs(
    experiment: Experiment, state: State
) -> tuple[Programs, list[None]]:
    """Return the programs of a run, and a list that grows at each trace of its step.

    Its training is compiled here, and the others where they are first called.
    """
    traces: list[None] = []
    step = experiment_step(experiment, lambda: traces.append(None))
    members = traced_members(experiment)
    compile_training = _on_resident if is_resident(experiment) else _on_streamed
    programs = Programs(
        compile_training(experiment, step, state, members),
        most_steps(experiment),
        _evaluate(experiment, members),
        _statistics(experiment, members),
    )
    return programs, traces


def _on_resident(
    experiment: Experiment, step: MemberStep, state: State, members: TracedMember
) -> Train:
    data = resident(experiment)
    order, number = orders(experiment, data), counts(experiment)
    call = (step_loop if loops(experiment) else single_step)(experiment, step)
    program = compiled(call, donate=(0,))
    program.lower(state, data, order(0), number(1), members).compile()
    # The jitted function knows what was compiled, and its calls take less of the host.
    return lambda state, done, count: program(
        state, data, order(done), number(count), members
    )


def _on_streamed(
    experiment: Experiment, step: MemberStep, state: State, members: TracedMember
) -> Train:
    def call(
        state: State, batch: Batch, members: TracedMember
    ) -> tuple[State, Metrics]:
        state, metrics = step(state, batch, members)
        shown = jax.lax.with_sharding_constraint(metrics, replicated(experiment.mesh))
        return state, jax.tree.map(lambda value: value[None], shown)

    first = make_batch(experiment, *next(batch_ids(experiment, 0)))
    program = compiled(call, donate=(0,)).lower(state, first, members).compile()
    batches: list[Iterator[Batch]] = []

    def train(state: State, done: int, count: int) -> tuple[State, Metrics]:
        if not batches:
            batches.append(one_ahead(batches_from(experiment, done)))
        return program(state, next(batches[0]), members)

    return train


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
    own = gathered(members)
    return lambda number, *arrays: statistics(of_run(experiment, own, number), *arrays)
