"""Convolutions as arrays: by Winograd's method or by XLA's own, whichever is faster."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from models.convolution.correlation import correlate, correlate_at_stride_1, output_size
from models.convolution.products import Images
from models.convolution.windows import every_other, interleaved
from models.convolution.winograd import ConvKernel, Pair, suits_winograd

Padding = Literal["VALID", "SAME"]
Algorithm = Literal["windows", "direct"]
# Set while a network is traced for backends other than this process's.
_plain: ContextVar[bool] = ContextVar("plain", default=False)


def convolution(
    x: Images, kernel: ConvKernel, *, padding: Padding, stride: int = 1
) -> Images:
    """Return the cross-correlation of an image (NHWC) with a kernel (HWIO).

    SAME pads half a kernel on each side, whatever the stride, as PyTorch does. XLA's
    own SAME depends on the stride.
    """
    pads = pads_of(kernel, padding)
    if stride > 2 or not is_fast(x):
        return correlate(x, kernel, pads, stride)
    begin, size = (pads[0][0], pads[1][0]), output_size(x, kernel, pads, stride)
    if stride == 2:
        return every_other(x, kernel, begin, size)
    if suits_winograd(kernel):
        return interleaved(x, kernel, begin, size)
    return correlate_at_stride_1(x, kernel, pads)


def direct_convolution(
    x: Images, kernel: ConvKernel, *, padding: Padding, stride: int = 1
) -> Images:
    """Return the same as `convolution`, but at stride 1 always by XLA's operation.

    A step takes longer, but it compiles in a fraction of the time, which pays in short
    runs (`scripts/bench.py --parts=start`).
    """
    if stride > 1 or not is_fast(x):
        return convolution(x, kernel, padding=padding, stride=stride)
    return correlate_at_stride_1(x, kernel, pads_of(kernel, padding))


def is_fast(x: Array) -> bool:
    """Return whether there are faster ways for an image than XLA's plain operations."""
    # Outside of `jit` nothing would remove the results that nobody reads.
    traced = isinstance(x, Tracer) and not _plain.get()
    return traced and jax.default_backend() == "cpu" and x.dtype == jnp.float32


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Trace plain XLA operations in the block, as any backend takes them.

    What was traced under `jit` before keeps its form.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def output_shape(x: Images, kernel: ConvKernel, padding: Padding) -> tuple[int, ...]:
    """Return the shape of a convolution of stride 1."""
    size = output_size(x, kernel, pads_of(kernel, padding), 1)
    return len(x), *size, kernel.shape[-1]


def pads_of(kernel: ConvKernel, padding: Padding) -> tuple[Pair, Pair]:
    """Return the pixels before and after the image, along its height and its width."""
    if padding == "VALID":
        return (0, 0), (0, 0)
    height, width = (((size - 1) // 2, size // 2) for size in kernel.shape[:2])
    return height, width
