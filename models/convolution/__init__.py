"""Convolution, ReLU and max-pooling: fast on the CPU, plain XLA operations elsewhere.

On the CPU a convolution is computed as four arrays, one for each position in a window
of 2x2 (`windows.py`). A convolution of stride 2 is one of them, one of stride 1 is all
four interleaved (with windows of 4x4 where that is faster). Where such windows are
pooled, pooling takes the largest of the four, and the output of the convolution itself
never exists (except in `strips.py`). Nothing outside this package needs to know: bias
and ReLU commute with the largest value, so each function here remembers how to make the
pooled result of its output, and `jit` removes what nothing reads.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float

from models.convolution.correlation import correlate, correlate_at_stride_1, output_size
from models.convolution.pooling import largest, rectified
from models.convolution.products import Images
from models.convolution.windows import corners, every_other, interleaved, phases
from models.convolution.winograd import ConvKernel, Pair, suits_winograd

Padding = Literal["VALID", "SAME"]

# The first option makes XLA keep `materialize`: it would otherwise fuse across it and
# compute a pooled map anew for each operation that reads the map. With the second, the
# variant `gaussian` takes two thirds of the time (`scripts/bench.py --parts=variants`).
CPU_OPTIONS = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_cpu_prefer_vector_width": "512",
}

# Maps the id of each live traced array to the function that computes its 2x2 maxima.
_pooled: dict[int, Callable[[], Images]] = {}


Algorithm = Literal["windows", "direct"]


def convolution(
    x: Images, kernel: ConvKernel, *, padding: Padding, stride: int = 1
) -> Images:
    """Return the cross-correlation of an image (NHWC) with a kernel (HWIO).

    SAME pads half a kernel on each side, whatever the stride, as PyTorch does. XLA's
    own SAME depends on the stride.
    """
    pads = _pads(kernel, padding)
    if stride > 2 or not _is_fast(x):
        return correlate(x, kernel, pads, stride)
    begin, size = (pads[0][0], pads[1][0]), output_size(x, kernel, pads, stride)
    if stride == 2:
        return every_other(x, kernel, begin, size)
    if suits_winograd(kernel):
        y = interleaved(x, kernel, begin, size)
    else:
        y = correlate_at_stride_1(x, kernel, tuple(pads))
    pooled_size = (size[0] // 2, size[1] // 2)
    return _remember(y, lambda: largest(corners(x, kernel, begin, pooled_size)))


def direct_convolution(
    x: Images, kernel: ConvKernel, *, padding: Padding, stride: int = 1
) -> Images:
    """Return the same as `convolution`, at stride 1 always by XLA's own.

    A step takes longer and is compiled in a fraction of the time, which short runs have
    more of (`scripts/bench.py --parts=start`).
    """
    if stride > 1 or not _is_fast(x):
        return convolution(x, kernel, padding=padding, stride=stride)
    return correlate_at_stride_1(x, kernel, tuple(_pads(kernel, padding)))


CONVOLUTIONS: dict[Algorithm, Callable[..., Images]] = {
    "windows": convolution,
    "direct": direct_convolution,
}


def add_bias(x: Images, bias: Float[Array, "1 1 1 channels"]) -> Images:
    """Add its bias to each channel."""

    def add(x: Images) -> Images:
        return x + bias

    return _monotone(x, add, add)


def relu(x: Array) -> Array:
    """Return the positive part."""
    return _monotone(x, jax.nn.relu, rectified)


def max_pool(
    x: Images,
    *,
    window: Pair = (2, 2),
    strides: Pair = (2, 2),
    padding: Padding | tuple[Pair, Pair] = "VALID",
) -> Images:
    """Return the largest value in each window, by default 2x2 without overlap.

    `padding` may name the pixels before and after the map, which are never the largest.
    """
    if not _is_fast(x) or (window, strides, padding) != ((2, 2), (2, 2), "VALID"):
        pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), pads
        )
    if id(x) in _pooled:
        return materialize(_pooled[id(x)]())
    size = (x.shape[1] // 2, x.shape[2] // 2)
    return materialize(largest(sum(phases(x, (0, 0), size, 2), [])))


@functools.cache
def compiler_options() -> dict[str, str]:
    """Return the `CPU_OPTIONS` that this version of XLA knows, and none off the CPU."""
    if jax.default_backend() != "cpu":
        return {}
    return {name: value for name, value in CPU_OPTIONS.items() if _knows(name, value)}


def _knows(option: str, value: str) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _pads(kernel: ConvKernel, padding: Padding) -> list[Pair]:
    same = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
    return same if padding == "SAME" else [(0, 0), (0, 0)]


def _is_fast(x: Array) -> bool:
    # Outside of `jit` nothing would remove the results that nobody reads.
    traced = isinstance(x, Tracer)
    return traced and jax.default_backend() == "cpu" and x.dtype == jnp.float32


def _monotone(
    x: Array,
    function: Callable[[Array], Array],
    of_pooled: Callable[[Images], Images],
) -> Array:
    """Apply a function that commutes with the maximum.

    `of_pooled` is the same function, in the form that is applied to pooled values.
    """
    pooled = _pooled[id(x)] if id(x) in _pooled else None
    return _remember(function(x), pooled and (lambda: of_pooled(pooled())))


def _remember(x: Array, pooled: Callable[[], Images] | None) -> Array:
    if pooled:
        _pooled[id(x)] = pooled
        weakref.finalize(x, _pooled.pop, id(x))
    return x
