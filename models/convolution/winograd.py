"""Winograd's convolutions with 3x3 and 5x5 kernels, over 2x2 and 4x4 windows.

Lavin & Gray 2016 (arXiv:1509.09308) describe the method.
"""

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float

from models.convolution.products import products

ConvKernel = Float[Array, "kernel_height kernel_width inputs outputs"]
Pair = tuple[int, int]
Grid = list[list[Array]]
Coefficients = Sequence[Sequence[float]]

# Maps the extents of a window and of the kernel to the points, besides infinity, at
# which polynomials are evaluated. With the first set of points, sums of whole numbers
# stay exact. The other sets round, and these points keep the rounding errors small.
POINTS = {
    (2, 3): (0, 1, -1),
    (4, 3): (0, 2 / 3, -2 / 3, 4 / 3, -4 / 3),
    (5, 3): (1 / 4, -1 / 4, 1, -1, 3 / 2, -3 / 2),
    (2, 5): (0, 1, -1, 2, -1 / 2),
}


def suits_winograd(kernel: ConvKernel) -> bool:
    """Return whether Winograd's method is faster for this kernel than one product."""
    # Products over fewer than eight channels are slow.
    return kernel.shape[:2] in ((3, 3), (5, 5)) and kernel.shape[2] >= 8


@functools.cache
def transforms(
    window: int, taps: int
) -> tuple[Coefficients, Coefficients, Coefficients]:
    """Return the matrices that transform images, kernels and outputs along an axis.

    In the algorithm of Toom and Cook, a product of polynomials is known from its values
    at the points and at infinity, and each value is a product of numbers.
    """
    points = np.array(POINTS[window, taps], float)
    differences = points[:, None] - points
    np.fill_diagonal(differences, 1)
    others = [np.poly(np.delete(points, number))[::-1] for number in range(len(points))]
    of_images = [*(np.append(each, 0) for each in others), np.poly(points)[::-1]]
    powers = np.vander(points, max(window, taps), increasing=True)
    of_kernels = powers[:, :taps] / differences.prod(1, keepdims=True)
    of_kernels = np.vstack([of_kernels, np.eye(taps)[-1]])
    of_outputs = np.column_stack([powers[:, :window].T, np.eye(window)[-1]])
    return np.array(of_images).tolist(), of_kernels.tolist(), of_outputs.tolist()


def count_of_products(window: int, taps: int, size: Pair) -> int:
    """Return the number of products of matrices for an image of this size."""
    tiles = math.prod(-(-extent // window) for extent in size)
    return (window + taps - 1) ** 2 * tiles


def best_window(taps: int, size: Pair) -> int:
    """Return the extent of the windows that need the fewest products.

    4x4 windows divide by three and therefore round; with 2x2 windows and 3x3 kernels,
    sums of whole numbers stay exact. ResNet-20 takes 0.75 of the time that it takes
    with 2x2 windows alone (`scripts/bench.py --parts=steps
    --models='resnet(depth=20)'`).
    """
    windows = (2, 4) if taps == 3 else (2,)
    return min(windows, key=lambda window: count_of_products(window, taps, size))


def winograd(tiles: Grid, kernel: ConvKernel) -> Grid:
    """Return the convolution at each offset in the windows, given the image per tap."""
    window = len(tiles) - len(kernel) + 1
    of_images, of_kernels, of_outputs = transforms(window, len(kernel))
    kernels = _both_axes(of_kernels, [list(row) for row in kernel])
    images = _both_axes(of_images, tiles)
    found = products(sum(images, []), sum(kernels, []))
    starts = range(0, len(found), len(tiles))
    rows = [found[start : start + len(tiles)] for start in starts]
    return _both_axes(of_outputs, rows)


def _both_axes(matrix: Coefficients, grid: Grid) -> Grid:
    """Apply a matrix to the rows and to the columns of a grid."""
    columns = [weighted_sums(matrix, column) for column in zip(*grid)]
    rows = [list(row) for row in zip(*columns)]
    # Longer sums are computed once and kept, which saves a tenth of ResNet-20's time
    # (`scripts/bench.py --parts=steps --models='resnet(depth=20)'`).
    if len(matrix[0]) > 4:
        rows = materialize(rows)
    return [weighted_sums(matrix, row) for row in rows]


def weighted_sums(matrix: Coefficients, values: Sequence[Array]) -> list[Array]:
    """Return the sum of the arrays, weighted by each row of the matrix."""
    return [
        functools.reduce(
            operator.add,
            [weight * value for weight, value in zip(row, values) if weight],
        )
        for row in matrix
    ]
