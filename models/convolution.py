"""Convolution, ReLU and max-pooling: fast on the CPU, plain XLA operations elsewhere.

A convolution that is pooled over 2x2 windows is computed on the CPU as four arrays, one
for each place in a window, all products of matrices; pooling takes the largest of the
four, and the convolution's own output never exists. Nothing else needs to know: bias
and ReLU commute with the largest value, so each function here remembers how the pooled
result of its output is made, and under `jit` what nobody reads is never computed.
"""

import functools
import math
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float, Int8

Images = Float[Array, "n _height _width _channels"]
Kernel = Float[Array, "kernel_height kernel_width inputs outputs"]
Padding = Literal["VALID", "SAME"]
Pair = tuple[int, int]
Grid = list[list[Array]]

# Winograd's F(2x2, 3x3), Lavin & Gray 2015 (arXiv:1509.09308), section 4.1.
INPUT_TRANSFORM = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
KERNEL_TRANSFORM = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
OUTPUT_TRANSFORM = ((1, 1, 1, 0), (0, 1, -1, -1))

# The first makes `materialize` hold: XLA would fuse across it, and compute a pooled map
# anew for each of its readers. With the second `gaussian` takes two thirds of its time.
CPU_OPTIONS = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_cpu_prefer_vector_width": "512",
}

# How the 2x2 maxima of a traced array are made, by its id, while the array lives.
_pooled: dict[int, Callable[[], Images]] = {}


def convolution(
    x: Images, kernel: Kernel, *, padding: Padding, stride: int = 1
) -> Images:
    """Cross-correlation, NHWC with HWIO.

    SAME pads half a kernel on each side, whatever the stride.
    """
    same = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
    pads = same if padding == "SAME" else [(0, 0), (0, 0)]
    if stride > 2 or not _is_fast(x):
        return correlate(x, kernel, pads, stride)
    begin = (pads[0][0], pads[1][0])
    if stride == 2:
        return _every_other(x, kernel, begin, output_size(x, kernel, pads, 2))
    y = _convolve(x, kernel, pads)
    size = (y.shape[1] // 2, y.shape[2] // 2)
    return _remember(y, lambda: largest(corners(x, kernel, begin, size)))


def add_bias(x: Images, bias: Float[Array, "1 1 1 channels"]) -> Images:
    """The sum, one bias for each channel."""
    return _monotone(lambda x: x + bias, x)


def relu(x: Array) -> Array:
    """Rectified units: the positive part."""
    return _monotone(jax.nn.relu, x)


def max_pool(
    x: Images,
    *,
    window: Pair = (2, 2),
    strides: Pair = (2, 2),
    padding: Padding = "VALID",
) -> Images:
    """The largest value in each window, by default 2x2 without overlap."""
    if not _is_fast(x) or (window, strides, padding) != ((2, 2), (2, 2), "VALID"):
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), padding
        )
    if id(x) in _pooled:
        return materialize(_pooled[id(x)]())
    size = (x.shape[1] // 2, x.shape[2] // 2)
    return materialize(largest(sum(phases(x, (0, 0), size), [])))


@functools.cache
def compiler_options() -> dict[str, str]:
    """What to compile with on the CPU, of what this XLA knows."""
    if jax.default_backend() != "cpu":
        return {}
    return {name: value for name, value in CPU_OPTIONS.items() if _knows(name, value)}


def _knows(option: str, value: str) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def correlate(
    x: Images, kernel: Kernel, pads: Sequence[Pair], stride: int = 1
) -> Images:
    """XLA's convolution."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=layout
    )


# XLA:CPU brings convolutions to the form it is fast at, but not inside a loop: there
# the derivatives that JAX writes take 5 and 80 times as long as these.
_correlate = jax.custom_vjp(
    lambda x, kernel, pads: correlate(x, kernel, pads), nondiff_argnums=(2,)
)


def _correlate_forward(x: Images, kernel: Kernel, pads: Sequence[Pair]) -> tuple:
    return correlate(x, kernel, pads), (x, kernel)


def _correlate_backward(
    pads: Sequence[Pair], operands: tuple[Images, Kernel], cotangent: Images
) -> tuple[Images, Kernel]:
    x, kernel = operands
    opposite = [
        (extent - 1 - low, extent - 1 - high)
        for extent, (low, high) in zip(kernel.shape, pads)
    ]
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return (
        correlate(cotangent, flipped, opposite),
        _kernel_gradient(padded, cotangent).reshape(kernel.shape),
    )


def _kernel_gradient(x: Images, cotangent: Images) -> Float[Array, "kh kwi o"]:
    """As products of matrices: XLA's own convolution for it runs on one core."""
    _, height, width, outputs = cotangent.shape
    rows = [x[:, :, left : left + width] for left in range(x.shape[2] - width + 1)]
    wide = jnp.concatenate(rows, axis=-1)
    errors = materialize(cotangent.reshape(-1, outputs))
    taps = [
        materialize(wide[:, top : top + height].reshape(-1, wide.shape[-1]))
        for top in range(x.shape[1] - height + 1)
    ]
    return jnp.stack([tap.T @ errors for tap in taps])


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _convolve(x: Images, kernel: Kernel, pads: Sequence[Pair]) -> Images:
    """The fastest of the ways to a convolution of stride 1."""
    if not _suits_winograd(kernel):
        return _correlate(x, kernel, tuple(pads))
    height, width = output_size(x, kernel, pads, 1)
    begin, size = (pads[0][0], pads[1][0]), (-(-height // 2), -(-width // 2))
    return interleave(corners(x, kernel, begin, size))[:, :height, :width]


def output_size(x: Images, kernel: Kernel, pads: Sequence[Pair], stride: int) -> Pair:
    """The height and the width of a convolution's output."""
    height, width = (
        (extent + sum(pad) - taps) // stride + 1
        for extent, pad, taps in zip(x.shape[1:3], pads, kernel.shape)
    )
    return height, width


def interleave(images: list[Images]) -> Images:
    """The image whose four `phases` are given."""
    count, height, width, channels = images[0].shape
    rows = [jnp.stack(pair, axis=3) for pair in (images[:2], images[2:])]
    return jnp.stack(rows, axis=2).reshape(count, 2 * height, 2 * width, channels)


def _suits_winograd(kernel: Kernel) -> bool:
    # Tiles of few channels are slow.
    return kernel.shape[:2] == (3, 3) and kernel.shape[2] >= 8


@functools.partial(jax.jit, static_argnums=(2, 3))
def corners(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> list[Images]:
    """The convolution at (2r, 2c), (2r, 2c + 1), (2r + 1, 2c) and (2r + 1, 2c + 1).

    Each is an image of the given size; `begin` is the padding at the top and the left.
    """
    grid = _grid(x, kernel, begin, size)
    if math.prod(kernel.shape[:3]) <= 32:
        return _sums(grid, kernel, size)
    # 0.8 of the time that `cnn` takes with patches.
    if _suits_winograd(kernel):
        return _winograd(grid, kernel, size)
    return _patches(grid, kernel, size)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _every_other(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> Images:
    """The convolution at (2r, 2c)."""
    return _corner(_grid(x, kernel, begin, size), kernel, size, (0, 0))


def _grid(x: Images, kernel: Kernel, begin: Pair, size: Pair) -> Grid:
    height, width = kernel.shape[:2]
    extent = (size[0] + height // 2, size[1] + width // 2)
    return [[materialize(phase) for phase in row] for row in phases(x, begin, extent)]


def phases(x: Images, begin: Pair, size: Pair) -> Grid:
    """The images x[:, i::2, j::2], each of the given size, as a grid over (i, j).

    Before that `x` is padded with `begin` zeros at the top and the left, and at the
    bottom and the right it is padded or cut as the size asks.
    """
    count, height, width, channels = x.shape
    ends = (2 * size[0] - height - begin[0], 2 * size[1] - width - begin[1])
    borders = ((0, 0), *zip(begin, ends), (0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*border, 0) for border in borders])
    x = x.reshape(count, size[0], 2, size[1], 2, channels)
    # The transpose of a split is a concatenation; that of strided slices is slow.
    return [
        [
            phase.reshape(count, *size, channels)
            for phase in jax.lax.split(row, (1, 1), axis=4)
        ]
        for row in jax.lax.split(x, (1, 1), axis=2)
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
    patches = functools.partial(_patches, size=size)
    return jax.vjp(patches, *operands)[1](cotangents)


_sums.defvjp(_sums_forward, _sums_backward)


def _winograd(grid: Grid, kernel: Kernel, size: Pair) -> list[Images]:
    kernels = _both_axes(KERNEL_TRANSFORM, [list(row) for row in kernel])
    tiles = [[_tap(grid, i, j, size) for j in range(4)] for i in range(4)]
    products = [
        list(map(_product, *rows))
        for rows in zip(_both_axes(INPUT_TRANSFORM, tiles), kernels)
    ]
    return sum(_both_axes(OUTPUT_TRANSFORM, products), [])


def _tap(grid: Grid, i: int, j: int, size: Pair) -> Images:
    """x[:, i::2, j::2] of an image given by its phases."""
    phase = grid[i % 2][j % 2]
    return phase[:, i // 2 : i // 2 + size[0], j // 2 : j // 2 + size[1]]


def _product(x: Images, matrix: Float[Array, "inputs outputs"]) -> Images:
    """The product over channels of arrays that are read whole and written whole."""
    rows = materialize(x.reshape(-1, x.shape[-1]))
    return materialize(rows @ matrix).reshape(*x.shape[:3], -1)


def _both_axes(matrix: Sequence[Sequence[int | float]], grid: Grid) -> Grid:
    """A matrix applied to the rows and to the columns of a grid."""
    rows = [[_weighted_sum(w, column) for column in zip(*grid)] for w in matrix]
    return [[_weighted_sum(w, row) for w in matrix] for row in rows]


def _weighted_sum(weights: Sequence[int | float], values: Sequence[Array]) -> Array:
    terms = [weight * value for weight, value in zip(weights, values) if weight]
    return functools.reduce(operator.add, terms)


def _is_fast(x: Array) -> bool:
    # Without a trace nothing would remove what is not read.
    traced = isinstance(x, Tracer)
    return traced and jax.default_backend() == "cpu" and x.dtype == jnp.float32


def _monotone(function: Callable[[Array], Array], x: Array) -> Array:
    """Applies what commutes with the largest value."""
    pooled = _pooled[id(x)] if id(x) in _pooled else None
    return _remember(function(x), pooled and (lambda: function(pooled())))


def _remember(x: Array, pooled: Callable[[], Images] | None) -> Array:
    if pooled:
        _pooled[id(x)] = pooled
        weakref.finalize(x, _pooled.pop, id(x))
    return x
