"""An LSTM that reads an image row by row, from the top."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from dropout import Drop, identity, named_key
from models.layers import GLOROT, Dense, Images, over_last_axis, require_widths

ORTHOGONAL = jax.nn.initializers.orthogonal()

States = tuple[Float[Array, "n units"], Float[Array, "n units"]]


class Recurrence(nnx.Module):
    """A layer of LSTM cells, with its sites.

    The gates lie side by side in the order input, forget, candidate, output; the forget
    gate's bias starts at 1, the others at 0.
    """

    def __init__(self, features: int, units: int, key: Key[Array, ""]):
        shapes = (features, 4 * units), (units, 4 * units)
        inputs, recurrent = (
            named_key(key, site) for site in ("lstm/kernel", "lstm/recurrent/kernel")
        )
        self.kernel = nnx.Param(GLOROT(inputs, shapes[0], jnp.float32))
        self.recurrent = nnx.Dict(
            kernel=nnx.Param(ORTHOGONAL(recurrent, shapes[1], jnp.float32))
        )
        bias = jnp.zeros(4 * units, jnp.float32)
        self.bias = nnx.Param(bias.at[units : 2 * units].set(1))

    def __call__(
        self, rows: Float[Array, "n time features"], drop: Drop
    ) -> Float[Array, "n units"]:
        """Rows (n, time, features) -> the last hidden state (n, units)."""
        kernel, recurrent = (
            parameter[...].astype(rows.dtype)
            for parameter in (self.kernel, self.recurrent.kernel)
        )
        gates = drop("lstm/kernel", rows, kernel, jnp.matmul)
        gates = gates + over_last_axis(self.bias[...], gates)
        # Outside the scan: a mask holds for the sequence. One kernel, or one a row.
        kernels = drop("lstm/recurrent/kernel", rows, recurrent, lambda _, k: k[None])

        def step(states: States, now: tuple[Array, Array]) -> tuple[States, None]:
            return _step(states, *now, kernels, drop), None

        start = jnp.zeros((rows.shape[0], recurrent.shape[0]), rows.dtype)
        times = jnp.arange(rows.shape[1])
        (hidden, _), _ = jax.lax.scan(
            step, (start, start), (times, jnp.swapaxes(gates, 0, 1))
        )
        return hidden


class LSTM(nnx.Module):
    """One layer of LSTM cells over the rows of an image, and a dense layer after it."""

    sites = (
        "input", "rows", "lstm/kernel", "lstm/recurrent/kernel",
        "lstm/hidden", "lstm/candidate", "lstm/cell/state", "lstm/state",
        "features", "out/kernel",
    )  # fmt: skip

    def __init__(
        self, image: tuple[int, int, int], classes: int, key: Key[Array, ""], units: int
    ):
        self.lstm = Recurrence(image[1] * image[2], units, key)
        self.out = Dense("out", (units, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Images (n, h, w, c) -> logits (n, classes); row by row, h is the time."""
        x = drop("input", images)
        rows = drop("rows", x.reshape(*x.shape[:2], -1))
        return self.out(drop("features", self.lstm(rows, drop)), drop)


def lstm(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    units: int = 128,
) -> LSTM:
    """An LSTM over the rows of an image (Hochreiter & Schmidhuber 1997, Gers 2000)."""
    require_widths("lstm", (units,), 1)
    return LSTM(image, classes, key, units)


def _step(
    states: States,
    time: Int[Array, ""],
    gates: Float[Array, "n gates"],
    kernels: Float[Array, "copies units gates"],
    drop: Drop,
) -> States:
    """The next hidden and cell state; `gates` is what the inputs give to them.

    The new hidden state follows the cell before zoneout (Krueger et al. 2017, eq. 6).
    """
    hidden, cell = states
    entering = drop("lstm/hidden", hidden, time=time)
    gates = gates + jnp.matmul(entering[:, None], kernels)[:, 0]
    write, forget, candidate, read = jnp.split(gates, 4, axis=-1)
    candidate = drop("lstm/candidate", jnp.tanh(candidate), time=time)
    sigmoid = jax.nn.sigmoid
    new_cell = sigmoid(forget) * cell + sigmoid(write) * candidate
    new_hidden = sigmoid(read) * jnp.tanh(new_cell)
    next_cell = drop("lstm/cell/state", new_cell, cell, time=time)
    return drop("lstm/state", new_hidden, hidden, time=time), next_cell
