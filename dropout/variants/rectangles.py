"""Rectangles that variants erase: where they are, and how often they cover a pixel."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from dropout.arrays import Maps, Rate, widened
from dropout.bits import kept
from dropout.noise import fixed_rate
from dropout.variants.block_seeds import covering_seeds


def rectangle_of(
    word: UInt32[Array, " n"],
    rate: Float[Array, ""],
    shape: tuple[int, ...],
    corner: tuple[Array, Array],
    sides: tuple[Array, Array],
) -> Bool[Array, "n height width 1"]:
    """Return True inside the rectangle of each image that `word` decides to erase."""
    hole = ~kept(word, rate).reshape(-1, 1, 1, 1)
    for axis, start, side in zip((1, 2), corner, sides, strict=True):
        along = tuple(shape[axis] if other == axis else 1 for other in range(4))
        position = jax.lax.broadcasted_iota(jnp.int32, along, axis)
        offset = position - start.reshape(-1, 1, 1, 1)
        hole = hole & (offset >= 0) & (offset < side.reshape(-1, 1, 1, 1))
    return hole


def covered_by_square(length: int, side: int) -> Float[np.ndarray, " length"]:
    """Return how likely a square around a uniform pixel covers each pixel."""
    position, centre = np.arange(length)[:, None], np.arange(length)[None]
    offset = position - (centre - side // 2)
    return ((offset >= 0) & (offset < side)).mean(1)


def covered_by(length: int, side: int) -> Float[np.ndarray, " length"]:
    """Return how likely an interval at a uniform position covers each pixel."""
    return covering_seeds(length, side, "paper") / (length - side + 1)


def lose(x: Maps, rate: Rate, chance: Float[np.ndarray, "height width"]) -> Maps:
    """Return x (1 - rate chance): E[y] where a pixel is erased with this chance."""
    rate = fixed_rate(rate, x)
    lost = rate * jnp.asarray(chance[None, :, :, None], rate.dtype)
    return (widened(x) * (1 - lost)).astype(x.dtype)
