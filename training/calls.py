"""Calls of the compiled training step: of one step, or of several in one loop.

The host starts a call and reads its metrics; with several steps in one call it costs
the same for all of them. XLA rounds a step within a loop otherwise than one without:
six steps of a `scan` differ by 1e-7 from six single ones. A loop with a traced number
of trips is equal to itself however its steps are cut into calls. So there is one
program for every number of steps: the loop on a GPU or TPU, and on the CPU, where XLA
has no fast convolutions within a loop, the step itself, unless a flag asks for a loop.
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
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
from training.runtime.devices import put, replicated
from training.state import State
from training.step import Metrics

AUTOMATIC = 32  # Enough that the host's share of a call is lost in it.
MOST = 256  # The steps whose metrics a call has room for; `--steps_per_call` says so.


StepProgram = Callable[
    [State, Resident, Order, Int[Array, ""], TracedMember], tuple[State, Metrics]
]


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


def single_step(experiment: Experiment, step: MemberStep) -> StepProgram:
    """Return a function to jit that takes the one step of a call."""

    def call(
        state: State,
        data: Resident,
        order: Order,
        count: Int[Array, ""],
        members: TracedMember,
    ) -> tuple[State, Metrics]:
        state, metrics = _step(experiment, step, state, data, order, members)
        return state, jax.tree.map(lambda value: value[None], metrics)

    return call


def step_loop(experiment: Experiment, step: MemberStep) -> StepProgram:
    """Return a function to jit that takes the `count` steps of a call in a loop.

    The metrics have room for `MOST` steps, whatever their number in this call.
    """

    def call(
        state: State,
        data: Resident,
        order: Order,
        count: Int[Array, ""],
        members: TracedMember,
    ) -> tuple[State, Metrics]:
        def take(i: Int[Array, ""], carry: tuple) -> tuple[State, Metrics]:
            state, kept = carry
            state, metrics = _step(experiment, step, state, data, order, members)
            kept = jax.tree.map(lambda all, one: all.at[i].set(one), kept, metrics)
            return state, kept

        shape = (MOST, *state.step.shape)
        kept = {
            "loss": jnp.zeros(shape, jnp.float32),
            "accuracy": jnp.zeros(shape, jnp.float32),
            "finite": jnp.ones(shape, bool),
        }
        return jax.lax.fori_loop(0, count, take, (state, kept))

    return call


def orders(experiment: Experiment, data: Resident) -> Callable[[int], Order]:
    """Return a function of the steps done: the order of the epoch that they are in.

    It is computed once for each epoch, on the devices.
    """
    order_of, length = ordering(experiment), experiment.timeline.steps_per_epoch
    known: dict[int, Order] = {}

    def order(done: int) -> Order:
        epoch = done // length
        if epoch not in known:
            known.clear()
            known[epoch] = order_of(data, epoch)
        return known[epoch]

    return order


def counts(experiment: Experiment) -> Callable[[int], Int[Array, ""]]:
    """Return a function that puts a number of steps on the devices, each only once.

    To pass a number of the host takes half as long as to call the program of a tiny
    network (`scripts/bench.py --parts=loop`).
    """
    return lru_cache(lambda count: put(jnp.int32(count), replicated(experiment.mesh)))


def _step(
    experiment: Experiment,
    step: MemberStep,
    state: State,
    data: Resident,
    order: Order,
    members: TracedMember,
) -> tuple[State, Metrics]:
    """Take the step after those that a state has done, within the epoch of an order."""
    # All members have done as many. The state knows it, so that the host need not say.
    done = state.step.max()
    length = experiment.timeline.steps_per_epoch
    batch = gather_batch(experiment, data, order[done % length], done // length)
    state, metrics = step(state, batch, members)
    # Of members on many devices, each process shows all.
    shown = jax.lax.with_sharding_constraint(metrics, replicated(experiment.mesh))
    return state, shown
