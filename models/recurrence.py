"""Recurrent layers: a scan over time with cells of one kind, and their sites."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from dropout import Drop, named_key
from models.layers import GLOROT, over_last_axis

ORTHOGONAL = jax.nn.initializers.orthogonal()

State = Float[Array, "n units"]
States = tuple[State, ...]
Gates = Float[Array, "n gates"]
Reader = Callable[[State], Gates]


class Cell(NamedTuple):
    """A kind of cell.

    Attributes:
        step: (states, gates of the input, reader, drop) -> new states; the reader maps
            the hidden state to what it gives to the gates.
        gates: how many lie side by side in the kernels.
        states: how many there are; the first is the hidden state.
        sites: those called at each step, after the layer's own name.
        forget: the gate whose bias starts at 1, if any.
    """

    step: Callable[[States, Gates, Reader, Drop], States]
    gates: int
    states: int
    sites: tuple[str, ...]
    forget: int | None


class Recurrence(nnx.Module):
    """A layer of cells; a mask of its kernels holds for a whole sequence.

    All biases start at 0, but for that of a forget gate.
    """

    def __init__(
        self, name: str, kind: str, features: int, units: int, key: Key[Array, ""]
    ):
        self.name, self.kind = name, kind
        inputs, recurrent = (named_key(key, site) for site in self.sites[:2])
        cell = CELLS[kind]
        width = cell.gates * units
        self.kernel = nnx.Param(GLOROT(inputs, (features, width), jnp.float32))
        self.recurrent = nnx.Dict(
            kernel=nnx.Param(ORTHOGONAL(recurrent, (units, width), jnp.float32))
        )
        bias = jnp.zeros((cell.gates, units), jnp.float32)
        if cell.forget is not None:
            bias = bias.at[cell.forget].set(1)
        self.bias = nnx.Param(bias.reshape(-1))

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites in the order in which they are called."""
        ends = ("kernel", "recurrent/kernel", *CELLS[self.kind].sites)
        return tuple(f"{self.name}/{end}" for end in ends)

    def __call__(
        self, x: Float[Array, "n time features"], drop: Drop
    ) -> Float[Array, "n time units"]:
        """Inputs (n, time, features) -> the hidden states (n, time, units)."""
        cell = CELLS[self.kind]
        kernel, recurrent = (
            parameter[...].astype(x.dtype)
            for parameter in (self.kernel, self.recurrent.kernel)
        )
        gates = drop(f"{self.name}/kernel", x, kernel, jnp.matmul)
        gates = gates + over_last_axis(self.bias[...], gates)
        # Outside the scan: a mask holds for the sequence. One kernel, or one a row.
        kernels = drop(f"{self.name}/recurrent/kernel", x, recurrent, _one_kernel)

        def step(states: States, now: tuple[Array, Array]) -> tuple[States, State]:
            time, gates = now
            at_time = partial(_drop_in_layer, drop, self.name, time)
            states = cell.step(states, gates, partial(_read, kernels), at_time)
            return states, states[0]

        start = (jnp.zeros((x.shape[0], recurrent.shape[0]), x.dtype),)
        now = (jnp.arange(x.shape[1]), jnp.swapaxes(gates, 0, 1))
        _, hidden = jax.lax.scan(step, start * cell.states, now)
        return jnp.swapaxes(hidden, 0, 1)


def lstm_step(states: States, gates: Gates, read: Reader, drop: Drop) -> States:
    """Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

    The gates are input, forget, candidate, output. The new hidden state follows the
    cell before zoneout (Krueger et al. 2017, eq. 6).
    """
    hidden, cell = states
    gates = gates + read(drop("hidden", hidden))
    write, forget, candidate, output = jnp.split(gates, 4, axis=-1)
    candidate = drop("candidate", jnp.tanh(candidate))
    sigmoid = jax.nn.sigmoid
    new_cell = sigmoid(forget) * cell + sigmoid(write) * candidate
    new_hidden = sigmoid(output) * jnp.tanh(new_cell)
    next_cell = drop("cell/state", new_cell, cell)
    return drop("state", new_hidden, hidden), next_cell


def gru_step(states: States, gates: Gates, read: Reader, drop: Drop) -> States:
    """A gated recurrent unit (Cho et al. 2014, the form that resets after reading).

    The gates are reset, update, candidate: h_t = z h_(t-1) + (1 - z) candidate.
    """
    (hidden,) = states
    ours = jnp.split(gates, 3, axis=-1)
    theirs = jnp.split(read(drop("hidden", hidden)), 3, axis=-1)
    reset, keep = (jax.nn.sigmoid(a + b) for a, b in zip(ours[:2], theirs[:2]))
    candidate = drop("candidate", jnp.tanh(ours[2] + reset * theirs[2]))
    return (drop("state", keep * hidden + (1 - keep) * candidate, hidden),)


CELLS = {
    "lstm": Cell(lstm_step, 4, 2, ("hidden", "candidate", "cell/state", "state"), 1),
    "gru": Cell(gru_step, 3, 1, ("hidden", "candidate", "state"), None),
}


def _one_kernel(_, kernel: Array) -> Array:
    return kernel[None]


def _drop_in_layer(
    drop: Drop, name: str, time: Int[Array, ""], site: str, x: Array, *others: Array
) -> Array:
    return drop(f"{name}/{site}", x, *others, time=time)


def _read(kernels: Float[Array, "copies units gates"], hidden: State) -> Gates:
    return jnp.matmul(hidden[:, None], kernels)[:, 0]
