"""Variants that erase a rectangle of an image or of a feature map."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dropout.arrays import Maps, MapsLike, Rate
from dropout.bits import Seeds, integers, named_seeds, normal, random_bits, row_seeds
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, multiply, remake
from dropout.variants.rectangles import (
    covered_by,
    covered_by_square,
    lose,
    rectangle_of,
)

GRID = 64  # areas and aspects to choose from


def cutout(key: AnyKey, x: MapsLike, rate: Rate, *, length: int = 16) -> MapsLike:
    """Erases one square of an image, with probability `rate`.

    Formula: y = 0 in the rows cy - length // 2 ... cy - length // 2 + length - 1 and
        the same columns, as far as they lie in the image, (cy, cx) uniform over all
        pixels; else x. E[y] = x (1 - rate P), P the chance that the square covers the
        pixel. The authors' code has cy + length // 2 as its end, so that an odd length
        there erases length - 1 rows.
    Mask: (n, h, w, 1). On normalised images zero is the mean colour.
    At test: the identity.
    Domain: rate in [0, 1]; 1, a square in every image, is the published form.
    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """
    if length < 1:
        raise ValueError(f"cutout(length={length}): expected at least 1.")

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        words = random_bits(seeds, (shape[0], 3))
        top = integers(words[:, 1], shape[1]) - length // 2
        left = integers(words[:, 2], shape[2]) - length // 2
        size = jnp.full_like(top, length)
        hole = rectangle_of(words[:, 0], rate, shape, (top, left), (size, size))
        return jnp.where(hole, jnp.zeros((), jnp.float32), 1)

    return multiply(noise, key, x, rate)


def random_erasing(
    key: AnyKey,
    x: Maps,
    rate: Rate,
    *,
    smallest: float = 0.02,
    largest: float = 0.4,
    aspect: float = 0.3,
    fill: Literal["zero", "noise"] = "zero",
) -> Maps:
    """Erases one rectangle of random area and aspect, with probability `rate`.

    Formula: area ~ U(smallest, largest) h w, ratio ~ U(aspect, 1 / aspect), both in 64
        equal steps; height = round(sqrt(area ratio)), width = round(sqrt(area / ratio))
        where both are smaller than the image's; the corner is uniform among those that
        fit. y = 0 there, or N(0, 1) noise, else x. E[y] = x (1 - rate P), P the
        chance that the rectangle covers the pixel.
    Mask: (n, h, w, 1); noise differs from channel to channel.
    At test: the identity.
    Domain: rate in [0, 1]; published at 0.5.
    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", AAAI. There the
        conditions are met by trying again; here they hold for every entry of a table.
    """
    sides = jnp.asarray(rectangles(x.shape[1], x.shape[2], smallest, largest, aspect))

    words = random_bits(row_seeds(key, x.shape[0]), (x.shape[0], 4))
    heights, widths = sides[integers(words[:, 1], len(sides))].T
    top = integers(words[:, 2], x.shape[1] - heights + 1)
    left = integers(words[:, 3], x.shape[2] - widths + 1)

    @remake
    def erase(others: Seeds, rate: Array, corner: tuple, sides: tuple, x: Maps):
        hole = rectangle_of(words[:, 0], rate, x.shape, corner, sides)
        filling = normal(others, x.shape) if fill == "noise" else jnp.zeros_like(x)
        return jnp.where(hole, filling.astype(x.dtype), x)

    others = named_seeds(key, "fill", x.shape[0])
    return erase(others, fixed_rate(rate, x), (top, left), (heights, widths), x)


def erase(
    key: AnyKey, x: MapsLike, rate: Rate, *, height: float = 1 / 3, width: float = 1.0
) -> MapsLike:
    """Erases a rectangle of fixed size from all channels, with probability `rate`.

    Formula: y = 0 in a rectangle of round(height h) x round(width w) pixels, whose
        corner is uniform among those that let it fit; else x, without scaling. E[y] = x
        (1 - rate P), P the product of the chances that a row and a column are covered;
        each is a trapezoid along its axis.
    Mask: one for the whole batch, as published, or with unit='example' one per example;
        (n, h, w, 1). A width of 1 erases a stripe, as SpecAugment does.
    At test: the identity.
    Domain: rate in [0, 1]; 1, a rectangle every time, is the published form.
    Source: Dai et al. 2019, "Batch DropBlock Network for Person Re-identification and
        Beyond", ICCV, where the rectangle is a third of the map high.
    """
    sides = erased_sides(x.shape, height, width)

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        words = random_bits(seeds, (shape[0], 3))
        corner = (
            integers(words[:, 1], shape[1] - sides[0] + 1),
            integers(words[:, 2], shape[2] - sides[1] + 1),
        )
        full = (jnp.full_like(corner[0], sides[0]), jnp.full_like(corner[0], sides[1]))
        hole = rectangle_of(words[:, 0], rate, shape, corner, full)
        return jnp.where(hole, jnp.zeros((), jnp.float32), 1)

    return multiply(noise, key, x, rate)


def rectangles(
    height: int, width: int, smallest: float, largest: float, aspect: float
) -> Int[np.ndarray, "choices 2"]:
    """Return height and width of every rectangle that random erasing chooses from.

    Raises:
        ValueError: the options are out of order, or no rectangle fits.
    """
    if not 0 <= smallest <= largest <= 1 or not 0 < aspect <= 1:
        raise ValueError(
            f"random_erasing(smallest={smallest}, largest={largest}, aspect={aspect}): "
            "expected 0 <= smallest <= largest <= 1 and 0 < aspect <= 1."
        )
    steps = (np.arange(GRID) + 0.5) / GRID
    area = (smallest + (largest - smallest) * steps[:, None]) * height * width
    ratio = aspect + (1 / aspect - aspect) * steps[None]
    sides = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], -1).reshape(-1, 2)
    sides = np.round(sides).astype(np.int32)
    fits = (sides >= 1).all(1) & (sides < (height, width)).all(1)
    if not fits.any():
        raise ValueError(f"random_erasing: no rectangle fits {height}x{width}.")
    return sides[fits]


def cutout_mean(x: Maps, rate: Rate, *, length: int = 16) -> Maps:
    """Return E[y] of cutout: x (1 - rate P)."""
    rows, columns = (covered_by_square(size, length) for size in x.shape[1:3])
    return lose(x, rate, rows[:, None] * columns[None])


def random_erasing_mean(
    x: Maps,
    rate: Rate,
    *,
    smallest: float = 0.02,
    largest: float = 0.4,
    aspect: float = 0.3,
    fill: Literal["zero", "noise"] = "zero",
) -> Maps:
    """Return E[y] of random erasing: x (1 - rate P), whatever the fill."""
    sides = rectangles(x.shape[1], x.shape[2], smallest, largest, aspect)
    rows, columns = (
        np.stack([covered_by(length, size) for size in sides[:, axis].tolist()])
        for axis, length in enumerate(x.shape[1:3])
    )
    return lose(x, rate, np.einsum("ki,kj->ij", rows, columns) / len(sides))


def erase_mean(
    x: Maps, rate: Rate, *, height: float = 1 / 3, width: float = 1.0
) -> Maps:
    """Return E[y] of erase: x (1 - rate P)."""
    sides = erased_sides(x.shape, height, width)
    rows, columns = map(covered_by, x.shape[1:3], sides)
    return lose(x, rate, rows[:, None] * columns[None])


def erased_sides(
    shape: tuple[int, ...], height: float, width: float
) -> tuple[int, int]:
    """Return the rows and the columns that `erase` takes from a map, at least one.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < height <= 1 or not 0 < width <= 1:
        raise ValueError(
            f"erase(height={height}, width={width}): expected shares in (0, 1]."
        )
    return max(1, round(height * shape[1])), max(1, round(width * shape[2]))
