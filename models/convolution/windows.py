"""Convolutions computed as one array for each position in the output's 2x2 windows.

The outputs at one offset in all windows are a product of matrices over the phases of
the image, x[i::2, j::2]. The four arrays together are the convolution, their maximum is
the pooled convolution, and the first alone is the convolution of stride 2. Where
nothing pools, windows may be 4x4. They are 5x5 (`strips.py`) where those are so much
faster that pooling may read the whole output.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float

from models.convolution.products import Images, product
from models.convolution.strips import by_strips, suits_strips
from models.convolution.tiles import by_tiles
from models.convolution.winograd import (
    ConvKernel,
    Grid,
    Pair,
    best_window,
    suits_winograd,
    winograd,
)


@functools.partial(jax.jit, static_argnums=(2, 3))
def corners(x: Images, kernel: ConvKernel, begin: Pair, size: Pair) -> list[Images]:
    """Return the convolution at (2r, 2c), (2r, 2c+1), (2r+1, 2c) and (2r+1, 2c+1).

    Each is an image of the given size. `begin` is the padding at the top and the left.
    """
    if math.prod(kernel.shape[:3]) <= 32:
        # Without `materialize`, a mask at the input would be computed phase by phase,
        # in short strides.
        return _sums(_grid(materialize(x), kernel, begin, size, 2), kernel, size)
    whole = (2 * size[0], 2 * size[1])
    # With strips `cnn` takes 0.8 to 0.9 of the time that it takes with 2x2 windows
    # (`scripts/bench.py --parts=steps --models=cnn`).
    if suits_winograd(kernel) and suits_strips(kernel, whole):
        return sum(phases(by_strips(x, kernel, begin, whole), (0, 0), size, 2), [])
    grid = _grid(x, kernel, begin, size, 2)
    if suits_winograd(kernel):
        return sum(winograd(_tiles(grid, kernel, size), kernel), [])
    return _patches(grid, kernel, size)


@functools.partial(jax.jit, static_argnums=(2, 3))
def every_other(x: Images, kernel: ConvKernel, begin: Pair, size: Pair) -> Images:
    """Return the convolution at (2r, 2c)."""
    return _corner(_grid(x, kernel, begin, size, 2), kernel, size, (0, 0))


@functools.partial(jax.jit, static_argnums=(2, 3))
def interleaved(x: Images, kernel: ConvKernel, begin: Pair, size: Pair) -> Images:
    """Return the whole convolution by Winograd's method, an image of the given size."""
    return by_tiles(x, kernel, begin, size, best_window(len(kernel), size))


def _grid(x: Images, kernel: ConvKernel, begin: Pair, size: Pair, window: int) -> Grid:
    height, width = ((window + taps - 2) // window for taps in kernel.shape[:2])
    extent = (size[0] + height, size[1] + width)
    found = phases(x, begin, extent, window)
    return [[materialize(phase) for phase in row] for row in found]


def phases(x: Images, begin: Pair, size: Pair, step: int) -> Grid:
    """Return the images x[:, i::step, j::step] of the given size, a grid over (i, j).

    First `x` is padded with `begin` zeros at the top and the left; at the bottom and
    the right it is padded or cut to fit the size.
    """
    count, height, width, channels = x.shape
    ends = (step * size[0] - height - begin[0], step * size[1] - width - begin[1])
    borders = ((0, 0), *zip(begin, ends), (0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*border, 0) for border in borders])
    x = x.reshape(count, size[0], step, size[1], step, channels)
    # The transpose of a split is a concatenation; the one of strided slices is slow.
    return [
        [
            phase.reshape(count, *size, channels)
            for phase in jax.lax.split(row, (1,) * step, axis=4)
        ]
        for row in jax.lax.split(x, (1,) * step, axis=2)
    ]


def _patches(grid: Grid, kernel: ConvKernel, size: Pair) -> list[Images]:
    return [_corner(grid, kernel, size, offset) for offset in np.ndindex(2, 2)]


def _corner(grid: Grid, kernel: ConvKernel, size: Pair, offset: Pair) -> Images:
    top, left = offset
    taps = [
        _tap(grid, top + i, left + j, size) for i, j in np.ndindex(kernel.shape[:2])
    ]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return product(jnp.concatenate(taps, axis=-1), matrix)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sums(grid: Grid, kernel: ConvKernel, size: Pair) -> list[Images]:
    """Multiply and add elementwise, which fuses with the pooling that reads it.

    A product of matrices of so few columns takes three times as long
    (`scripts/bench.py --parts=steps --models=cnn`, whose first layer this is).
    """
    # Without `materialize`, the kernel of a member would be cut out of the population's
    # kernels anew for each element.
    kernel = materialize(kernel)

    def corner(top: int, left: int) -> Images:
        terms = [
            _tap(grid, top + i, left + j, size)[..., k : k + 1]
            * kernel[i : i + 1, j : j + 1, k : k + 1]
            for i, j, k in np.ndindex(kernel.shape[:3])
        ]
        return functools.reduce(operator.add, terms)

    return [corner(top, left) for top, left in np.ndindex(2, 2)]


def _sums_forward(grid: Grid, kernel: ConvKernel, size: Pair) -> tuple:
    return _sums(grid, kernel, size), (grid, kernel)


def _sums_backward(
    size: Pair, operands: tuple[Grid, ConvKernel], cotangents: list[Images]
) -> tuple[Grid, ConvKernel]:
    grid, kernel = operands
    count = math.gcd(len(cotangents[0]), 8)

    def of_tap(i: int, j: int, k: int) -> Float[Array, "outputs"]:
        products = [
            _tap(grid, top + i, left + j, size)[..., k : k + 1] * errors
            for (top, left), errors in zip(np.ndindex(2, 2), cotangents)
        ]
        # Neighbours in the batch are added in the loop that computes the errors, so
        # that the errors are never written: `cnn` takes 0.9 of the time that it takes
        # with products of matrices (`scripts/bench.py --parts=steps --models=cnn`).
        # Where several devices share a batch, neighbours lie on the same one.
        whole = functools.reduce(operator.add, products)
        neighbours = whole.reshape(-1, count, *whole.shape[1:])
        summands = jnp.unstack(neighbours, axis=1)
        return materialize(functools.reduce(operator.add, summands)).sum((0, 1, 2))

    _, pull = jax.vjp(lambda grid: _patches(grid, kernel, size), grid)
    taps = [of_tap(*tap) for tap in np.ndindex(kernel.shape[:3])]
    return *pull(cotangents), jnp.stack(taps).reshape(kernel.shape)


_sums.defvjp(_sums_forward, _sums_backward)


def _tiles(grid: Grid, kernel: ConvKernel, size: Pair) -> Grid:
    """Return the image at each tap that the kernel reads for a window."""
    taps = range(len(grid) + len(kernel) - 1)
    return [[_tap(grid, i, j, size) for j in taps] for i in taps]


def _tap(grid: Grid, i: int, j: int, size: Pair) -> Images:
    """Return x[:, i::step, j::step] of an image that is given by its phases."""
    step = len(grid)
    (down, i), (right, j) = divmod(i, step), divmod(j, step)
    return grid[i][j][:, down : down + size[0], right : right + size[1]]
