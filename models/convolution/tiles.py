"""Winograd's convolution of a whole image, with few operations to compile.

The windows of an image read overlapping tiles, and a tile is transformed along its rows
and its columns. Each transform acts on whole arrays. Toom and Cook's points along one
axis of the tile are an axis of these arrays, those along the other a list. A program
with an array for each pair of points takes three times as long to compile, and a step
of ResNet-20 takes a sixth longer (CPU time, `scripts/bench.py --parts=start,steps
--models='resnet(depth=20)'`).
"""

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array

from models.convolution.products import Images, multiplied
from models.convolution.winograd import ConvKernel, Pair, transforms, weighted_sums


def by_tiles(
    x: Images, kernel: ConvKernel, begin: Pair, size: Pair, window: int
) -> Images:
    """Return the convolution, an image of the given size.

    `begin` is the padding at the top and the left, `window` the extent of a window.
    """
    points = window + len(kernel) - 1
    of_images, of_kernels, of_outputs = transforms(window, len(kernel))
    windows = -(-size[0] // window), -(-size[1] // window)
    x = _padded(x, begin, windows, window, points)
    rows = jnp.stack(weighted_sums(of_images, _taps(x, 1, window, points)))
    # Without `materialize` each of the columns would compute the rows anew.
    images = weighted_sums(of_images, _taps(materialize(rows), 3, window, points))
    kernels = jnp.stack(weighted_sums(of_kernels, jnp.unstack(kernel)))
    kernels = weighted_sums(of_kernels, jnp.unstack(kernels, axis=1))
    matrices = [each.reshape(points, -1, each.shape[-1]) for each in images]
    found = multiplied(materialize(matrices), materialize(kernels))
    columns = materialize(jnp.stack(weighted_sums(of_outputs, found), axis=2))
    columns = columns.reshape(points, len(x), windows[0], windows[1] * window, -1)
    y = jnp.stack(weighted_sums(of_outputs, jnp.unstack(columns)), axis=2)
    y = y.reshape(len(x), windows[0] * window, *y.shape[3:])
    return y[:, : size[0], : size[1]]


def _padded(x: Images, begin: Pair, windows: Pair, window: int, points: int) -> Images:
    """Pad or cut an image so that it holds the tiles of all windows."""
    more = (points - 1) // window
    borders = [
        (before, window * (count + more) - extent - before, 0)
        for before, count, extent in zip(begin, windows, x.shape[1:3])
    ]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])


def _taps(x: Array, axis: int, window: int, points: int) -> list[Array]:
    """Return, along an axis, the first entry of each tile, the second, ..."""
    parted = x.reshape(*x.shape[:axis], -1, window, *x.shape[axis + 1 :])
    # The transpose of a split is a concatenation; the one of strided slices is slow.
    parts = jax.lax.split(parted, (1,) * window, axis=axis + 1)
    phases = [part.squeeze(axis + 1) for part in parts]
    count = phases[0].shape[axis] - (points - 1) // window
    taps = (divmod(tap, window) for tap in range(points))
    return [
        jax.lax.slice_in_dim(phases[phase], first, first + count, axis=axis)
        for first, phase in taps
    ]
