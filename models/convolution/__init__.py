"""Convolution, ReLU and max-pooling: fast on the CPU, plain XLA operations elsewhere.

On the CPU a convolution is computed as four arrays, one for each position in a window
of 2x2 (`windows.py`). A convolution of stride 2 is one of them, one of stride 1 is all
four interleaved (with windows of 4x4 where that is faster). Where such windows are
pooled, pooling takes the largest of the four, and the output of the convolution itself
never exists (except in `strips.py`). For this a network whose convolution is pooled
asks for a `deferred_convolution`, which `add_bias`, `relu`, `max_pool` and the `drop`
of a plan take in place of an array. `docs/convolution.md` explains all of it.
"""

import functools
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array

from models.convolution.deferred import DeferredConvolution, MaybeDeferred
from models.convolution.pooling import Bias, largest
from models.convolution.products import Images
from models.convolution.whole import (
    Algorithm,
    Padding,
    convolution,
    direct_convolution,
    is_fast,
    plain_operations,
)
from models.convolution.windows import phases
from models.convolution.winograd import ConvKernel, Pair

__all__ = [
    "CPU_OPTIONS",
    "Algorithm",
    "DeferredConvolution",
    "Images",
    "MaybeDeferred",
    "Padding",
    "add_bias",
    "compiler_options",
    "convolution",
    "deferred_convolution",
    "direct_convolution",
    "max_pool",
    "plain_operations",
    "relu",
]

# What may be deferred stays so, if nothing needs the array.
ImagesLike = TypeVar("ImagesLike", bound=Array | DeferredConvolution)

# The first option makes XLA keep `materialize`: it would otherwise fuse across it and
# compute a pooled map anew for each operation that reads the map. With the second, the
# variant `gaussian` takes two thirds of the time (`scripts/bench.py --parts=variants`).
CPU_OPTIONS = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_cpu_prefer_vector_width": "512",
}


def deferred_convolution(
    x: Images, kernel: ConvKernel, *, padding: Padding, stride: int = 1
) -> MaybeDeferred:
    """Return `convolution`, computed where it is read if that is faster."""
    if stride != 1 or not is_fast(x):
        return convolution(x, kernel, padding=padding, stride=stride)
    return DeferredConvolution(x, kernel, padding)


def add_bias(x: ImagesLike, bias: Bias) -> ImagesLike:
    """Add its bias to each channel."""
    y = x.plus(bias) if isinstance(x, DeferredConvolution) else x + bias
    return cast(ImagesLike, y)


def relu(x: ImagesLike) -> ImagesLike:
    """Return the positive part."""
    y = x.rectify() if isinstance(x, DeferredConvolution) else jax.nn.relu(x)
    return cast(ImagesLike, y)


def max_pool(
    x: MaybeDeferred,
    *,
    window: Pair = (2, 2),
    strides: Pair = (2, 2),
    padding: Padding | tuple[Pair, Pair] = "VALID",
) -> Images:
    """Return the largest value in each window, by default 2x2 without overlap.

    `padding` may name the pixels before and after the map, which are never the largest.
    """
    by_four = (window, strides, padding) == ((2, 2), (2, 2), "VALID")
    if isinstance(x, DeferredConvolution):
        if by_four:
            return materialize(x.pooled())
        x = x.array()
    if not by_four or not is_fast(x):
        pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), pads
        )
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
