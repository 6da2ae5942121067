"""Variants that erase a regular pattern of an image or of a feature map."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from dropout.arrays import Maps, MapsLike, Rate
from dropout.bits import Seeds, integers, kept, random_bits
from dropout.keys import AnyKey
from dropout.noise import multiply
from dropout.variants.rectangles import lose


def grid_mask(
    key: AnyKey,
    x: MapsLike,
    rate: Rate,
    *,
    shortest: int = 8,
    longest: int = 16,
    ratio: float = 0.5,
    drop: Literal["squares", "bars"] = "squares",
) -> MapsLike:
    """Erases a grid of squares of an image, with probability `rate`.

    Formula: the period d is uniform on shortest, ..., longest; a bar has
        l = ceil(ratio d) pixels, and its offsets a and b are uniform on 0 ... d - 1.
        A row i lies in a bar where (i - a) mod d < l, a column j where
        (j - b) mod d < l. "squares" sets to 0 the pixels that lie in no bar, "bars"
        those that lie in one; the rest is not scaled. E[y] = x (1 - rate P) with
        P = E[(1 - l / d)^2] for "squares" and 1 - E[(1 - l / d)^2] for "bars", the
        same at all pixels.
    Mask: (n, h, w, 1). On normalised images zero is the mean colour.
    At test: the identity.
    Domain: rate in [0, 1]; published with a rate that rises linearly.
    Source: Chen et al. 2020, "GridMask Data Augmentation", arXiv:2001.04086. The
        authors' code draws d below its upper bound, calls "squares" mode 1, and
        rotates the grid, by 360 degrees at most, which is left out here.
    """
    periods, bars = _periods(shortest, longest, ratio)

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        words = random_bits(seeds, (shape[0], 4))
        choice = integers(words[:, 1], len(periods))
        period, bar = jnp.asarray(periods)[choice], jnp.asarray(bars)[choice]
        rows, columns = (
            _in_a_bar(words[:, 1 + axis], period, bar, shape, axis) for axis in (1, 2)
        )
        pattern = rows | columns if drop == "bars" else ~(rows | columns)
        erased = pattern & ~kept(words[:, 0], rate).reshape(-1, 1, 1, 1)
        return jnp.where(erased, jnp.zeros((), jnp.float32), 1)

    return multiply(noise, key, x, rate)


def grid_mask_mean(
    x: Maps,
    rate: Rate,
    *,
    shortest: int = 8,
    longest: int = 16,
    ratio: float = 0.5,
    drop: Literal["squares", "bars"] = "squares",
) -> Maps:
    """Return E[y] of grid mask: x (1 - rate P), alike at all pixels."""
    periods, bars = _periods(shortest, longest, ratio)
    squares = np.mean((1 - bars / periods) ** 2)
    chance = 1 - squares if drop == "bars" else squares
    return lose(x, rate, np.full(x.shape[1:3], chance))


def hide_and_seek(
    key: AnyKey, x: MapsLike, rate: Rate, *, sizes: tuple[int, ...] = (0, 4, 8)
) -> MapsLike:
    """Erases the cells of a grid, each with probability `rate`; draws the grid's size.

    Formula: s is drawn from `sizes`, with equal chances; the image is cut from its top
        left corner into cells of s x s, and y = m x, m ~ Bernoulli(1 - rate) for each
        cell, without scaling; s = 0 leaves the image as it is. E[y] = (1 - rate P) x,
        P the share of sizes above 0.
    Mask: (n, h, w, 1). On normalised images zero is the mean colour, as published.
    At test: the identity.
    Domain: rate in [0, 1]; 1 erases the image, unless s = 0.
    Source: Singh & Lee 2017, "Hide-and-Seek: Forcing a Network to be Meticulous for
        Weakly-supervised Object and Action Localization", ICCV. The authors' code has
        sizes (0, 16, 32, 44, 56) for images of 224 x 224 and rate 0.5.
    """
    _check_sizes(sizes)

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        # An image uses the cells of one size, so that all sizes may share their bits.
        most = math.prod(_cells(shape, min(filter(None, sizes), default=1)))
        words = random_bits(seeds, (shape[0], most + 1))
        choice = integers(words[:, -1], len(sizes)).reshape(-1, 1, 1, 1)
        keep = jnp.ones((1, 1, 1, 1), bool)
        for index, size in enumerate(sizes):
            if size:
                cells = (-1, *_cells(shape, size), 1)
                whole = kept(words[:, : math.prod(cells[1:])], rate).reshape(cells)
                keep = keep & (_spread(whole, size, shape) | (choice != index))
        return keep.astype(jnp.float32)

    return multiply(noise, key, x, rate)


def hide_and_seek_mean(
    x: Maps, rate: Rate, *, sizes: tuple[int, ...] = (0, 4, 8)
) -> Maps:
    """Return E[y] of hide-and-seek: x (1 - rate P), P the share of sizes above 0."""
    _check_sizes(sizes)
    return lose(x, rate, np.full(x.shape[1:3], np.mean(np.asarray(sizes) > 0)))


def _periods(
    shortest: int, longest: int, ratio: float
) -> tuple[Int[np.ndarray, " d"], Int[np.ndarray, " d"]]:
    """Every period of the grid, and the width of its bars."""
    if not 1 <= shortest <= longest or not 0 <= ratio <= 1:
        raise ValueError(
            f"grid_mask(shortest={shortest}, longest={longest}, ratio={ratio}): "
            "expected 1 <= shortest <= longest and a ratio in [0, 1]."
        )
    periods = np.arange(shortest, longest + 1, dtype=np.int32)
    return periods, np.ceil(periods * ratio).astype(np.int32)


def _in_a_bar(
    word: UInt32[Array, " n"],
    period: Int[Array, " n"],
    bar: Int[Array, " n"],
    shape: tuple[int, ...],
    axis: int,
) -> Bool[Array, "n ..."]:
    """True at the positions of an axis that lie in a bar of their image's grid."""
    offset, period, bar = (
        value.reshape(-1, 1, 1, 1) for value in (integers(word, period), period, bar)
    )
    along = tuple(shape[axis] if other == axis else 1 for other in range(4))
    position = jax.lax.broadcasted_iota(jnp.int32, along, axis)
    return (position - offset) % period < bar


def _check_sizes(sizes: tuple[int, ...]) -> None:
    if not sizes or min(sizes) < 0:
        raise ValueError(
            f"hide_and_seek(sizes={sizes}): expected one size or more, 0 or above."
        )


def _cells(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """How many rows and columns of cells of this size cover an image."""
    return -(-shape[1] // size), -(-shape[2] // size)


def _spread(
    cells: Bool[Array, "n rows columns 1"], size: int, shape: tuple[int, ...]
) -> Bool[Array, "n height width 1"]:
    """The value of each cell at all of its pixels."""
    pixels = jnp.repeat(jnp.repeat(cells, size, 1), size, 2)
    return pixels[:, : shape[1], : shape[2]]
