"""Convolutions by places: at each of the places in the windows of 2x2 by itself.

Each place's output is a product of matrices over the phases of the image, which are
x[i::2, j::2]. All four are the convolution, the largest of them its pooling, the first
alone the convolution of stride 2. Where nothing pools, the windows may be of 4x4.
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float, Int8

Images = Float[Array, "n _height _width _channels"]
Kernel = Float[Array, "kernel_height kernel_width inputs outputs"]
Pair = tuple[int, int]
Grid = list[list[Array]]

# Winograd's transforms of images, kernels and outputs, by the extent of a window:
# F(2x2, 3x3) and F(4x4, 3x3), Lavin & Gray 2015 (arXiv:1509.09308), sections 4.1, 4.3.
TRANSFORMS = {
    2: (
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: (
        ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
         (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
        ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
         (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0),
         (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}  # fmt: skip


def suits_winograd(kernel: Kernel) -> bool:
    """Whether the places of this kernel are fast enough to be interleaved."""
    # Tiles of few channels are slow.
    return kernel.shape[:2] == (3, 3) and kernel.shape[2] >= 8


@functools.partial(jax.jit, static_argnums=(2, 3))
def corners(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> list[Images]:
    """The convolution at (2r, 2c), (2r, 2c + 1), (2r + 1, 2c) and (2r + 1, 2c + 1).

    Each is an image of the given size; `begin` is the padding at the top and the left.
    """
    grid = _grid(x, kernel, begin, size, 2)
    if math.prod(kernel.shape[:3]) <= 32:
        return _sums(grid, kernel, size)
    # 0.8 of the time that `cnn` takes with patches.
    if suits_winograd(kernel):
        return sum(_winograd(grid, kernel, size), [])
    return _patches(grid, kernel, size)


@functools.partial(jax.jit, static_argnums=(2, 3))
def every_other(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> Images:
    """The convolution at (2r, 2c)."""
    return _corner(_grid(x, kernel, begin, size, 2), kernel, size, (0, 0))


@functools.partial(jax.jit, static_argnums=(2, 3))
def interleaved(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> Images:
    """The convolution at every place, an image of the given size, by Winograd."""
    height, width = size
    window = _window(size)
    tiles = (-(-height // window), -(-width // window))
    places = _winograd(_grid(x, kernel, begin, tiles, window), kernel, tiles)
    rows = jnp.stack([jnp.stack(row, axis=3) for row in places], axis=2)
    shape = (len(x), window * tiles[0], window * tiles[1], kernel.shape[-1])
    return rows.reshape(shape)[:, :height, :width]


def _window(size: Pair) -> int:
    """The extent of the windows that take fewer products.

    Those of 4x4 divide by six, and round; in those of 2x2 sums of whole numbers stay
    exact. ResNet-20 takes 0.75 of the time that it takes with 2x2 alone.
    """

    def products(window: int) -> int:
        return (window + 2) ** 2 * math.prod(-(-extent // window) for extent in size)

    return min(TRANSFORMS, key=products)


def _grid(x: Images, kernel: Kernel, begin: Pair, size: Pair, window: int) -> Grid:
    height, width = ((window + taps - 2) // window for taps in kernel.shape[:2])
    extent = (size[0] + height, size[1] + width)
    found = phases(x, begin, extent, window)
    return [[materialize(phase) for phase in row] for row in found]


def phases(x: Images, begin: Pair, size: Pair, step: int) -> Grid:
    """The images x[:, i::step, j::step], of the given size, as a grid over (i, j).

    Before that `x` is padded with `begin` zeros at the top and the left, and at the
    bottom and the right it is padded or cut as the size asks.
    """
    count, height, width, channels = x.shape
    ends = (step * size[0] - height - begin[0], step * size[1] - width - begin[1])
    borders = ((0, 0), *zip(begin, ends), (0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*border, 0) for border in borders])
    x = x.reshape(count, size[0], step, size[1], step, channels)
    # The transpose of a split is a concatenation; that of strided slices is slow.
    return [
        [
            phase.reshape(count, *size, channels)
            for phase in jax.lax.split(row, (1,) * step, axis=4)
        ]
        for row in jax.lax.split(x, (1,) * step, axis=2)
    ]


@jax.custom_vjp
def largest(values: list[Images]) -> Images:
    """The elementwise maximum; the gradient flows to the first of those that tie.

    Keeps which one won, in a byte: the gradient of `reduce_window` takes half the step.
    """
    return _winner(values)[0]


def _winner(values: list[Images]) -> tuple[Images, Int8[Array, "n h w c"]]:
    best, which = values[0], jnp.zeros(values[0].shape, jnp.int8)
    for number, value in enumerate(values[1:], 1):
        which = jnp.where(value > best, jnp.int8(number), which)
        best = jnp.maximum(best, value)
    return materialize((best, which))


def _pass_to_winner(which: Int8[Array, "n h w c"], cotangent: Images) -> tuple:
    return ([jnp.where(which == number, cotangent, 0) for number in range(4)],)


largest.defvjp(_winner, _pass_to_winner)


def _patches(grid: Grid, kernel: Kernel, size: Pair) -> list[Images]:
    return [_corner(grid, kernel, size, place) for place in np.ndindex(2, 2)]


def _corner(grid: Grid, kernel: Kernel, size: Pair, place: Pair) -> Images:
    top, left = place
    taps = [
        _tap(grid, top + i, left + j, size) for i, j in np.ndindex(kernel.shape[:2])
    ]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return _product(jnp.concatenate(taps, axis=-1), matrix)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sums(grid: Grid, kernel: Kernel, size: Pair) -> list[Images]:
    """Multiplied and added place by place, which fuses with the pooling that reads it.

    A product of matrices of so few columns takes three times as long.
    """
    # Else a member's kernel would be cut from the population's at every place.
    kernel = materialize(kernel)

    def corner(top: int, left: int) -> Images:
        terms = [
            _tap(grid, top + i, left + j, size)[..., k : k + 1]
            * kernel[i : i + 1, j : j + 1, k : k + 1]
            for i, j, k in np.ndindex(kernel.shape[:3])
        ]
        return functools.reduce(operator.add, terms)

    return [corner(top, left) for top, left in np.ndindex(2, 2)]


def _sums_forward(grid: Grid, kernel: Kernel, size: Pair) -> tuple:
    return _sums(grid, kernel, size), (grid, kernel)


def _sums_backward(
    size: Pair, operands: tuple[Grid, Kernel], cotangents: list[Images]
) -> tuple[Grid, Kernel]:
    grid, kernel = operands

    def of_kernel(place: Pair, errors: Images) -> Float[Array, "taps outputs"]:
        taps = [
            _tap(grid, place[0] + i, place[1] + j, size)[..., k].reshape(1, -1)
            for i, j, k in np.ndindex(kernel.shape[:3])
        ]
        # A row for each tap: a column for each takes 1.07 of the time of `cnn`.
        return materialize(jnp.concatenate(taps)) @ _as_rows(errors)

    _, pull = jax.vjp(lambda grid: _patches(grid, kernel, size), grid)
    sums = map(of_kernel, np.ndindex(2, 2), cotangents)
    return *pull(cotangents), functools.reduce(operator.add, sums).reshape(kernel.shape)


_sums.defvjp(_sums_forward, _sums_backward)


def _winograd(grid: Grid, kernel: Kernel, size: Pair) -> Grid:
    """The convolution at each place of the windows."""
    of_images, of_kernels, of_outputs = TRANSFORMS[len(grid)]
    taps = range(len(of_images))
    tiles = [[_tap(grid, i, j, size) for j in taps] for i in taps]
    kernels = _both_axes(of_kernels, [list(row) for row in kernel])
    products = [
        list(map(_product, *rows))
        for rows in zip(_both_axes(of_images, tiles), kernels)
    ]
    return _both_axes(of_outputs, products)


def _tap(grid: Grid, i: int, j: int, size: Pair) -> Images:
    """x[:, i::step, j::step] of an image given by its phases."""
    step = len(grid)
    (down, i), (right, j) = divmod(i, step), divmod(j, step)
    return grid[i][j][:, down : down + size[0], right : right + size[1]]


def _product(x: Images, matrix: Float[Array, "inputs outputs"]) -> Images:
    """The product over channels of arrays that are read whole and written whole."""
    return _multiplied(_as_rows(x), matrix).reshape(*x.shape[:3], -1)


def _as_rows(x: Images) -> Float[Array, "rows channels"]:
    return materialize(x.reshape(-1, x.shape[-1]))


@jax.custom_vjp
def _multiplied(
    rows: Float[Array, "rows inputs"], matrix: Float[Array, "inputs outputs"]
) -> Float[Array, "rows outputs"]:
    """The product, whose gradient over many rows reads them as columns.

    XLA is slow at it with rows: `cnn` takes 0.91 of the time at batch 128. Fewer are
    multiplied on one core, several at once, and there rows are as good.
    """
    return materialize(rows @ matrix)


def _multiplied_forward(rows: Array, matrix: Array) -> tuple:
    columns = materialize(rows.T) if len(rows) >= 2048 else rows.T
    return _multiplied(rows, matrix), (columns, matrix)


def _multiplied_backward(
    operands: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    columns, matrix = operands
    errors = materialize(cotangent)
    return errors @ matrix.T, columns @ errors


_multiplied.defvjp(_multiplied_forward, _multiplied_backward)


def _both_axes(matrix: Sequence[Sequence[int | float]], grid: Grid) -> Grid:
    """A matrix applied to the rows and to the columns of a grid."""
    rows = [[_weighted_sum(w, column) for column in zip(*grid)] for w in matrix]
    # Longer sums are made once: 0.9 of the time that ResNet-20 takes.
    if len(matrix[0]) > 4:
        rows = materialize(rows)
    return [[_weighted_sum(w, row) for w in matrix] for row in rows]


def _weighted_sum(weights: Sequence[int | float], values: Sequence[Array]) -> Array:
    terms = [weight * value for weight, value in zip(weights, values) if weight]
    return functools.reduce(operator.add, terms)
