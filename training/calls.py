"""Calls of the compiled training step: of one step, or of several in one loop.

The host starts a call and reads its metrics; with several steps in one call it costs
the same for all of them. XLA rounds a step within a loop otherwise than one without:
six steps of a `scan` differ by 1e-7 from six single ones. A loop with a traced number
of trips is equal to itself however its steps are cut into calls. So there is one
program for every number of steps: the loop on a GPU or TPU, and on the CPU, where XLA
has no fast convolutions within a loop, the step itself, unless a flag asks for a loop.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from training.data.resident import (
    Order,
    Resident,
    gather_batch,
    is_resident,
    ordering,
)
from training.experiment import Experiment
from training.population import MemberStep, TracedMember
from training.state import State
from training.step import Metrics

AUTOMATIC = 32  # Enough that the host's share of a call is lost in it.
MOST = 256  # The steps whose metrics a call has room for; `--steps_per_call` says so.


class Stretch(NamedTuple):
    """The steps of an epoch that one call takes.

    Attributes:
        order: the examples of all steps of the epoch.
        epoch: counts from 0.
        first: the step of the epoch with which the call begins.
        count: the number of steps of the call.
    """

    order: Order
    epoch: Int[Array, ""] | np.int32
    first: Int[Array, ""] | np.int32
    count: Int[Array, ""] | np.int32


Call = Callable[[State, Resident, Stretch, TracedMember], tuple[State, Metrics]]


def loops(experiment: Experiment) -> bool:
    """Return whether the steps of a run are taken in a loop of the compiled program."""
    on_cpu = jax.default_backend() == "cpu"
    return is_resident(experiment) and (
        not on_cpu or experiment.config.steps_per_call > 1
    )


def most_steps(experiment: Experiment) -> int:
    """Return the largest number of steps in one call.

    Raises:
        ValueError: several are asked for, and the data are read while training.
    """
    asked = experiment.config.steps_per_call
    if asked > 1 and not is_resident(experiment):
        raise ValueError(
            f"--steps_per_call={asked}: {experiment.config.dataset} is read while "
            "training; expected 0 or 1, or data that fit in memory."
        )
    return (asked or AUTOMATIC) if loops(experiment) else 1


def single_step(experiment: Experiment, step: MemberStep) -> Call:
    """Return a function to jit that takes the one step of a call."""

    def call(
        state: State, data: Resident, at: Stretch, members: TracedMember
    ) -> tuple[State, Metrics]:
        batch = gather_batch(experiment, data, at.order[at.first], at.epoch)
        state, metrics = step(state, batch, members)
        return state, jax.tree.map(lambda value: value[None], metrics)

    return call


def step_loop(experiment: Experiment, step: MemberStep) -> Call:
    """Return a function to jit that takes the steps of a call in a loop.

    The metrics have room for `MOST` steps, whatever the number in this call.
    """

    def call(
        state: State, data: Resident, at: Stretch, members: TracedMember
    ) -> tuple[State, Metrics]:
        def take(i: Int[Array, ""], carry: tuple) -> tuple[State, Metrics]:
            state, kept = carry
            batch = gather_batch(experiment, data, at.order[at.first + i], at.epoch)
            state, metrics = step(state, batch, members)
            kept = jax.tree.map(lambda all, one: all.at[i].set(one), kept, metrics)
            return state, kept

        shape = (MOST, *state.step.shape)
        kept = {
            "loss": jnp.zeros(shape, jnp.float32),
            "accuracy": jnp.zeros(shape, jnp.float32),
            "finite": jnp.ones(shape, bool),
        }
        return jax.lax.fori_loop(0, at.count, take, (state, kept))

    return call


def stretches(experiment: Experiment, data: Resident) -> Callable[[int, int], Stretch]:
    """Return a function of the steps done and the steps to take in a call.

    The order of an epoch is computed once, on the devices.
    """
    order_of, length = ordering(experiment), experiment.timeline.steps_per_epoch
    known: dict[int, Order] = {}

    def stretch(done: int, count: int) -> Stretch:
        epoch, first = divmod(done, length)
        if epoch not in known:
            known.clear()
            known[epoch] = order_of(data, np.int32(epoch))
        return Stretch(known[epoch], *map(np.int32, (epoch, first, count)))

    return stretch
