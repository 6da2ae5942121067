"""XLA's convolution, with derivatives that are fast on the CPU."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.convolution.products import Images, as_rows
from models.convolution.winograd import ConvKernel, Pair


def output_size(
    x: Images, kernel: ConvKernel, pads: Sequence[Pair], stride: int
) -> Pair:
    """Return the height and width of a convolution's output."""
    height, width = (
        (extent + sum(pad) - taps) // stride + 1
        for extent, pad, taps in zip(x.shape[1:3], pads, kernel.shape)
    )
    return height, width


def correlate(
    x: Images, kernel: ConvKernel, pads: Sequence[Pair], stride: int = 1
) -> Images:
    """Return XLA's convolution."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=layout
    )


def _correlate(x: Images, kernel: ConvKernel, pads: tuple[Pair, Pair]) -> Images:
    return correlate(x, kernel, pads)


# XLA:CPU rewrites a convolution into its fast form, but not inside a loop. There JAX's
# derivatives with respect to image and kernel take 5 and 80 times as long as these
# (`scripts/bench.py --parts=steps --models=cnn_same --batch_sizes=512`, a scan over
# micro-batches of 128).
correlate_at_stride_1 = jax.custom_vjp(_correlate, nondiff_argnums=(2,))


def _forward(x: Images, kernel: ConvKernel, pads: tuple[Pair, Pair]) -> tuple:
    return correlate(x, kernel, pads), (x, kernel)


def _backward(
    pads: tuple[Pair, Pair], operands: tuple[Images, ConvKernel], cotangent: Images
) -> tuple[Images, ConvKernel]:
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
    """Return the kernel's gradient, computed by products of matrices.

    XLA's convolution for it runs on a single core.
    """
    _, height, width, _ = cotangent.shape
    rows = [x[:, :, left : left + width] for left in range(x.shape[2] - width + 1)]
    wide = jnp.concatenate(rows, axis=-1)
    errors = as_rows(cotangent)
    taps = [
        as_rows(wide[:, top : top + height]) for top in range(x.shape[1] - height + 1)
    ]
    return jnp.stack([tap.T @ errors for tap in taps])


correlate_at_stride_1.defvjp(_forward, _backward)
