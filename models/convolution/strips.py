"""Winograd's convolution with 3x3 kernels over 5x5 windows, in strips of windows.

It takes half as many products as 2x2 windows do. Each product is too small for a call
of its own, so the seven in a row of a transformed strip are computed in one call.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float

from models.convolution.products import Images, multiplied
from models.convolution.winograd import (
    ConvKernel,
    Pair,
    count_of_products,
    transforms,
    weighted_sums,
)

WINDOW, TAPS = 5, 7
OF_IMAGES, OF_KERNELS, OF_OUTPUTS = transforms(WINDOW, 3)

PixelRow = Float[Array, "n width channels"]
# A row after its transform: one matrix for each of the seven points of Toom-Cook.
AtPoints = Float[Array, "points _windows channels"]


def suits_strips(kernel: ConvKernel, size: Pair) -> bool:
    """Return whether strips are faster than 2x2 windows for an image of this size."""
    of_five, of_two = (count_of_products(window, 3, size) for window in (WINDOW, 2))
    # Each strip adds a second or more to compilation.
    few_strips = size[0] <= 3 * WINDOW
    return kernel.shape[:2] == (3, 3) and few_strips and of_five <= 0.6 * of_two


def by_strips(x: Images, kernel: ConvKernel, begin: Pair, size: Pair) -> Images:
    """Return the convolution, an image of the given size.

    `begin` is the padding at the top and the left. Each strip is a row of windows. All
    strips are computed at once, because XLA's executor hands operations to another
    thread only while more than eight are ready.
    """
    height, width = (-(-extent // WINDOW) for extent in size)
    rows = _apart(_image_rows, _padded(x, begin, (height, width)))
    images = _apart(_image_columns, rows)
    products = multiplied(images, _kernels(kernel) * height)
    rows = _apart(_output_rows, _apart(_output_columns, products))
    y = jnp.stack([row.reshape(len(x), -1, row.shape[-1]) for row in rows], axis=1)
    return materialize(y)[:, : size[0], : size[1]]


def _padded(x: Images, begin: Pair, windows: Pair) -> Images:
    """Pad or cut an image so that it holds all windows and one more on each axis."""
    borders = [
        (before, WINDOW * (count + 1) - extent - before, 0)
        for before, count, extent in zip(begin, windows, x.shape[1:3])
    ]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])


def _image_rows(x: Images) -> list[PixelRow]:
    """Return the seven transformed rows of each strip.

    The inputs of neighbouring strips share two rows.
    """
    strips = zip(*(jnp.unstack(tap, axis=1) for tap in _taps(x)))
    return sum((weighted_sums(OF_IMAGES, strip) for strip in strips), [])


def _image_columns(rows: list[PixelRow]) -> list[AtPoints]:
    found = [jnp.stack(weighted_sums(OF_IMAGES, _taps(row))) for row in rows]
    return [each.reshape(TAPS, -1, each.shape[-1]) for each in found]


def _kernels(kernel: ConvKernel) -> list[Float[Array, "points inputs outputs"]]:
    rows = materialize(weighted_sums(OF_KERNELS, jnp.unstack(kernel)))
    found = [weighted_sums(OF_KERNELS, jnp.unstack(row)) for row in rows]
    return materialize([jnp.stack(each) for each in found])


def _output_columns(
    products: list[AtPoints],
) -> list[Float[Array, "_windows 5 outputs"]]:
    found = [weighted_sums(OF_OUTPUTS, jnp.unstack(each)) for each in products]
    return [jnp.stack(each, axis=1) for each in found]


def _output_rows(rows: list[Array]) -> list[Array]:
    strips = [rows[start : start + TAPS] for start in range(0, len(rows), TAPS)]
    return sum((weighted_sums(OF_OUTPUTS, strip) for strip in strips), [])


def _taps(x: Array) -> list[Array]:
    """Return, along the second axis, the first entry of each window, the second, ..."""
    parted = x.reshape(len(x), -1, WINDOW, *x.shape[2:])
    # The transpose of a split is a concatenation; the one of strided slices is slow.
    phases = [part.squeeze(2) for part in jax.lax.split(parted, (1,) * WINDOW, axis=2)]
    overlap = [phase[:, 1:] for phase in phases[: TAPS - WINDOW]]
    return [*(phase[:, :-1] for phase in phases), *overlap]


def _apart(linear: Callable, x: Array | list[Array]) -> list[Array]:
    """Apply a linear function whose result does not reuse the memory of its operand.

    The same holds for its transpose. XLA's executor makes an operation wait for all
    operations that read the memory it writes to. With this function `cnn` takes 0.8 of
    the time that it takes without (`scripts/bench.py --parts=steps --models=cnn`).
    """

    @jax.custom_vjp
    def apart(x: Array | list[Array]) -> list[Array]:
        return forward(x)[0]

    def forward(x: Array | list[Array]) -> tuple:
        y, transpose = jax.vjp(linear, x)
        return materialize((y, x))[0], transpose

    def backward(transpose: Callable, cotangent: list[Array]) -> tuple:
        return (materialize((*transpose(cotangent), cotangent))[0],)

    apart.defvjp(forward, backward)
    return apart(x)
