"""Recurrent layers: each scans over time with cells of one kind, and has sites."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from dropout import Drop, named_key
from models.layers import GLOROT, over_last_axis

ORTHOGONAL = jax.nn.initializers.orthogonal()

Units = Float[Array, "n units"]
States = tuple[Units, ...]
Gates = Float[Array, "n gates"]
ToGates = Callable[[Units], Gates]


class Cell(NamedTuple):
    """A kind of cell.

    Attributes:
        step: (states, gates of the input, to_gates, drop) -> new states; `to_gates`
            multiplies the hidden state by the recurrent kernel. `drop` takes the names
            of sites within the layer: `hidden`, `candidate`, `state` ...
        gates: the number of gates, which lie side by side in the kernels.
        states: the number of states; the first is the hidden state.
        forget: the index of the gate whose bias starts at 1, if any.
        biases: the number of biases of each gate: one, or a second one that is added to
            what the recurrent kernel gives.
    """

    step: Callable[[States, Gates, ToGates, Drop], States]
    gates: int
    states: int
    forget: int | None
    biases: Literal[1, 2]


class Recurrence(nnx.Module):
    """A layer of cells, in which a mask of a kernel holds for a whole sequence.

    All biases start at 0, except the bias of a forget gate, which starts at 1
    (Jozefowicz et al. 2015).
    """

    def __init__(
        self, name: str, kind: str, features: int, units: int, key: Key[Array, ""]
    ):
        self.name, self.kind, cell = name, kind, CELLS[kind]
        width = cell.gates * units
        inputs = named_key(key, f"{name}/kernel")
        recurrent = named_key(key, f"{name}/recurrent/kernel")
        self.kernel = nnx.Param(GLOROT(inputs, (features, width), jnp.float32))
        self.recurrent = nnx.Dict(
            kernel=nnx.Param(ORTHOGONAL(recurrent, (units, width), jnp.float32))
        )
        bias = jnp.zeros((cell.gates, units), jnp.float32)
        if cell.forget is not None:
            bias = bias.at[cell.forget].set(1)
        self.bias = nnx.Param(bias.reshape(-1))
        if cell.biases == 2:
            self.recurrent["bias"] = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(
        self, x: Float[Array, "n time features"], drop: Drop
    ) -> Float[Array, "n time units"]:
        """Map inputs (n, time, features) to the hidden states (n, time, units)."""
        cell = CELLS[self.kind]
        kernel, recurrent = (
            parameter[...].astype(x.dtype)
            for parameter in (self.kernel, self.recurrent.kernel)
        )
        gates = drop(f"{self.name}/kernel", x, kernel, jnp.matmul)
        gates = gates + over_last_axis(self.bias[...], gates)
        # The kernel is dropped outside the scan, so that a mask holds for the whole
        # sequence. The result is one kernel, or one per example.
        kernels = drop(f"{self.name}/recurrent/kernel", x, recurrent, _one_kernel)

        def step(states: States, now: tuple[Array, Array]) -> tuple[States, Units]:
            time, gates = now
            at_time = partial(_drop_in_layer, drop, self.name, time)
            to_gates = partial(_to_gates, kernels, self._recurrent_bias(gates))
            states = cell.step(states, gates, to_gates, at_time)
            return states, states[0]

        start = (jnp.zeros((x.shape[0], recurrent.shape[0]), x.dtype),)
        now = (jnp.arange(x.shape[1]), jnp.swapaxes(gates, 0, 1))
        _, hidden = jax.lax.scan(step, start * cell.states, now)
        return jnp.swapaxes(hidden, 0, 1)

    def _recurrent_bias(self, gates: Gates) -> Float[Array, "1 gates"] | float:
        if "bias" not in self.recurrent:
            return 0.0
        return over_last_axis(self.recurrent["bias"][...], gates)


def lstm_step(states: States, gates: Gates, to_gates: ToGates, drop: Drop) -> States:
    """Advance long short-term memory by a step.

    The cell is the one of Hochreiter & Schmidhuber 1997 with the forget gate of Gers et
    al. 2000. The gates are input, forget, candidate, output. The new hidden state is
    computed from the cell state before zoneout (Krueger et al. 2017, eq. 6).
    """
    hidden, cell = states
    gates = gates + to_gates(drop("hidden", hidden))
    write, forget, candidate, output = jnp.split(gates, 4, axis=-1)
    candidate = drop("candidate", jnp.tanh(candidate))
    sigmoid = jax.nn.sigmoid
    new_cell = sigmoid(forget) * cell + sigmoid(write) * candidate
    new_hidden = sigmoid(output) * jnp.tanh(new_cell)
    next_cell = drop("cell/state", new_cell, cell)
    return drop("state", new_hidden, hidden), next_cell


def gru_step(states: States, gates: Gates, to_gates: ToGates, drop: Drop) -> States:
    """Advance gated recurrent units by a step (Cho et al. 2014).

    The gates are reset, update, candidate: h_t = z h_(t-1) + (1 - z) candidate. The
    reset gate multiplies what the recurrent kernel and the second bias give, as in
    cuDNN, PyTorch and Keras.
    """
    (hidden,) = states
    ours = jnp.split(gates, 3, axis=-1)
    theirs = jnp.split(to_gates(drop("hidden", hidden)), 3, axis=-1)
    reset, keep = (jax.nn.sigmoid(a + b) for a, b in zip(ours[:2], theirs[:2]))
    candidate = drop("candidate", jnp.tanh(ours[2] + reset * theirs[2]))
    return (drop("state", keep * hidden + (1 - keep) * candidate, hidden),)


CELLS = {
    "lstm": Cell(lstm_step, gates=4, states=2, forget=1, biases=1),
    "gru": Cell(gru_step, gates=3, states=1, forget=None, biases=2),
}


def _one_kernel(_, kernel: Array) -> Array:
    return kernel[None]


def _drop_in_layer(
    drop: Drop, name: str, time: Int[Array, ""], site: str, x: Array, *others: Array
) -> Array:
    # The reader is named, because the next kernel that is called belongs to the next
    # layer: this layer's recurrent kernel is called before the scan.
    reader = f"{name}/recurrent/kernel"
    return drop(f"{name}/{site}", x, *others, time=time, reader=reader)


def _to_gates(
    kernels: Float[Array, "copies units gates"],
    bias: Float[Array, "1 gates"] | float,
    hidden: Units,
) -> Gates:
    return jnp.matmul(hidden[:, None], kernels)[:, 0] + bias
