"""How many seeds of blocks it takes to drop a given fraction of a map.

Probabilities are whole multiples of 2^-32 in uint32, and only integers are added and
multiplied, so that every backend finds the same seeds. In float32, 1 - gamma would lose
a small gamma.
"""

from math import gcd
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from dropout.bits import RESOLUTION

Seeding = Literal["extended", "paper"]
Fixed = UInt32[Array, "..."]  # a probability below 1, times 2^32

ROUNDS = 6  # of 2^5 candidates: the bits of a decision
MOST_POSITIONS = 2**15  # so that sums of 16-bit halves stay below 2^31


def seed_rate(
    rate: Float[Array, ""], cover: Int[np.ndarray, "..."]
) -> Float[Array, ""]:
    """Return the probability gamma of a seed that drops positions at `rate`.

    It is the smallest multiple of 2^-30 with mean_i 1 - (1 - gamma)^cover_i >= rate,
    where `cover` counts the seeds that cover each position. Below 2^15 positions the
    mean is exact, beyond them good to 1 part in 1000.
    """
    powers, weights = _shares(cover)
    wanted = jnp.ceil(rate.astype(jnp.float32) * np.float32(2.0**RESOLUTION))
    goal = _weighted_sum(
        wanted.astype(jnp.uint32)[None] << (32 - RESOLUTION),
        weights.sum(dtype=np.uint32, keepdims=True),
    )

    def refine(steps: Fixed, shift: Fixed) -> tuple[Array, None]:
        candidates = steps + (jnp.arange(1, 32, dtype=jnp.uint32) << shift) - 1
        gamma = candidates[:, None] << (32 - RESOLUTION)
        dropped = _weighted_sum(any_of(gamma, powers[None]), weights[None])
        enough = ~_less(dropped, goal)
        return steps + ((~enough).sum(dtype=jnp.uint32) << shift), None

    shifts = jnp.arange(RESOLUTION - 5, -1, -5, dtype=jnp.uint32)
    # Zero, but of the goal's kind under `shard_map`.
    steps, _ = jax.lax.scan(refine, goal[0] & 0, shifts)
    gamma = steps.astype(jnp.float32) * np.float32(2.0**-RESOLUTION)
    return jnp.where(rate < 1, gamma, 1)


def any_of(probability: Fixed, powers: Int[np.ndarray, "..."]) -> Fixed:
    """Return the probability that any of `powers` independent events happens."""
    result = jnp.zeros(jnp.broadcast_shapes(probability.shape, powers.shape), "uint32")
    for bit in range(int(powers.max()).bit_length()):
        taken = jnp.asarray((powers >> bit) & 1 == 1)
        result = jnp.where(taken, either(result, probability), result)
        probability = either(probability, probability)
    return result


def either(one: Fixed, other: Fixed) -> Fixed:
    """Return the probability that either of two independent events happens."""
    total = one + other - _product(one, other)
    # What is rounded up to 1 would be 0 in 32 bits.
    return jnp.where(total < one, np.uint32(0xFFFFFFFF), total)


def covering_seeds(length: int, size: int, mode: Seeding) -> Int[np.ndarray, " length"]:
    """Count the seeds that cover each position of an axis."""
    if size >= length:
        return np.ones(length, np.int32)
    if mode == "extended":
        return np.full(length, size, np.int32)
    position = np.arange(length, dtype=np.int32)
    last, first = np.minimum(position, length - size), position - size + 1
    return last - np.maximum(first, 0) + 1


def _shares(cover: Int[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """Each number of covering seeds, and how many positions have it, in proportion."""
    powers, weights = np.unique(cover, return_counts=True)
    weights = weights // gcd(*weights.tolist())
    if weights.sum() > MOST_POSITIONS:
        weights = np.round(weights * (MOST_POSITIONS - len(weights)) / weights.sum())
    return powers, weights.astype(np.uint32)


def _product(one: Fixed, other: Fixed) -> Fixed:
    """The high word of a product of 32-bit words, of which each half has 16 bits."""
    half = np.uint32(0xFFFF)
    high, low, others_high, others_low = (
        one >> 16,
        one & half,
        other >> 16,
        other & half,
    )
    middle = high * others_low + (low * others_low >> 16)
    carry = low * others_high + (middle & half)
    return high * others_high + (middle >> 16) + (carry >> 16)


def _weighted_sum(
    values: Fixed, weights: UInt32[np.ndarray, "..."]
) -> tuple[Fixed, Fixed]:
    """Weighted sums along the last axis, as high words and low words of 16 bits."""
    low = ((values & np.uint32(0xFFFF)) * weights).sum(-1, dtype=jnp.uint32)
    high = ((values >> 16) * weights).sum(-1, dtype=jnp.uint32)
    return high + (low >> 16), low & np.uint32(0xFFFF)


def _less(one: tuple[Fixed, Fixed], other: tuple[Fixed, Fixed]) -> Bool[Array, "..."]:
    return (one[0] < other[0]) | ((one[0] == other[0]) & (one[1] < other[1]))
