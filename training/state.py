"""The inputs of a training step: a batch, and the state with its sums."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from training.data.augmentation import AugmentationInputs
from training.network import Tree
from training.runtime.devices import gathered


class Batch(NamedTuple):
    """A batch in `k` micro-batches of `m` rows; padding has weight 0.

    A row has one label, or one at each of its positions.
    `augmentation` is None where nothing is augmented.
    In a population every array has a leading axis of members, as in `State`.
    """

    images: Num[Array, "k m h w c"]
    labels: Int[Array, "k m *positions"]
    examples: Int[Array, "k m"]
    weights: Float[Array, "k m"]
    augmentation: AugmentationInputs | None = None


class Totals(NamedTuple):
    """Sums over training examples since the last logged line."""

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    examples: Float[Array, ""]


class State(NamedTuple):
    """Everything that a step changes; in a population, arrays have a leading axis.

    Attributes:
        step: the number of completed steps.
        skipped: the number of steps that were not finite and changed nothing else.
        telemetry: sums by site since the last logged line; empty without telemetry.
        average: the moving average of `params` and `stats`; empty without `--ema`.
    """

    step: Int[Array, ""]
    skipped: Int[Array, ""]
    params: Tree
    stats: Tree
    opt_state: Any
    totals: Totals
    telemetry: Tree = {}
    average: Tree = {}


def empty_totals() -> Totals:
    """Return totals over no example."""
    return Totals(*(jnp.zeros((), jnp.float32) for _ in range(3)))


def initial_state(params: Tree, stats: Tree, optimizer) -> State:
    """Return the state before the first step."""
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(params)
    # Two arrays, not one twice: each is donated to the step.
    done, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return State(done, skipped, params, stats, opt_state, empty_totals())


def steps_done(state: State) -> int:
    """Return the steps done, which are the same for all members of a population."""
    return int(np.asarray(gathered(state.step)).max())
