"""Random bits as a pure function of (row seed, element index), cheap enough to fuse.

A row's seed is two words drawn from its JAX key with JAX's own generator. An element's
bits are two rounds of a 32-bit mixer over the element's index and those words, so XLA
evaluates them inside the loop that uses them: nothing of the mask's size is written to
memory, and the backward pass makes the same bits again.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key, UInt32

from dropout.keys import AnyKey, JaxBits, named_key, row_keys

Seeds = UInt32[Array, "n 2"] | Key[Array, " n"]
RESOLUTION = 30  # bits of a decision: the most that a signed comparison can take
SIGNIFICAND = 24  # bits of a float32 in [0, 1)
MOST_ELEMENTS = 2**32  # of a row: the index of an element has 32 bits
NORMAL_COEFFICIENTS = (0.00943108, -0.04279067, 0.07982017, 0.01207527, 1.67303137)


def row_seeds(key: AnyKey, rows: int) -> Seeds:
    """Return the seeds of each row's bits: two words per row, or the rows' keys."""
    if isinstance(key, JaxBits):
        return row_keys(key.key, rows)
    words = jax.vmap(lambda row: jax.random.bits(row, (2,), jnp.uint32))
    return words(row_keys(key, rows))


def named_seeds(key: AnyKey, name: str, rows: int) -> Seeds:
    """Return seeds for further bits of each row, distinct from `row_seeds`."""
    keys = jax.tree.map(lambda leaf: row_keys(leaf, rows), key)
    return row_seeds(named_key(keys, name), rows)


def random_bits(seeds: Seeds, shape: tuple[int, ...]) -> UInt32[Array, "n ..."]:
    """Return uniform 32-bit words of `shape` (n, ...), row by row from `seeds`.

    Raises:
        ValueError: a row of more than 2^32 elements, whose bits would repeat.
    """
    if math.prod(shape[1:]) > MOST_ELEMENTS:
        raise ValueError(
            f"rows of shape {shape[1:]} have {math.prod(shape[1:])} elements: expected "
            "at most 2^32, after which the bits of a row would repeat."
        )
    if jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        return jax.vmap(lambda row: jax.random.bits(row, shape[1:], jnp.uint32))(seeds)
    first, second = (
        seeds[:, word].reshape((-1,) + (1,) * (len(shape) - 1)) for word in (0, 1)
    )
    return _mix(_mix(_element_index(shape) ^ first) + second)


def uniform(seeds: Seeds, shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Return uniform float32 in [0, 1), multiples of 2^-24."""
    return as_uniform(random_bits(seeds, shape))


def normal(seeds: Seeds, shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Return normal float32 to within 3.1e-4 of the distribution function; |z| < 5.4.

    An odd polynomial of the sum of four 16-bit uniforms, whose coefficients give it the
    first ten moments of the standard normal distribution. It needs no logarithm and no
    root, which an inverse distribution function does.
    """
    first = random_bits(seeds, shape)
    second = first * np.uint32(0x9E3779B1)
    half = np.uint32(0xFFFF)
    total = (first & half) + (first >> 16) + (second & half) + (second >> 16)
    centred = total.astype(jnp.int32).astype(jnp.float32) - 2 * np.float32(half)
    scaled = centred * np.float32(2.0**-16)
    square, sum_of_powers = scaled * scaled, jnp.zeros((), jnp.float32)
    for coefficient in NORMAL_COEFFICIENTS:
        sum_of_powers = sum_of_powers * square + np.float32(coefficient)
    return sum_of_powers * scaled


def integers(bits: UInt32[Array, "..."], bound: Integer[Array, "..."] | int):
    """Return uniform int32 in [0, bound) from 32-bit words; `bound` is below 2^16."""
    bound = jnp.asarray(bound, jnp.uint32)
    carry = ((bits & np.uint32(0xFFFF)) * bound) >> 16
    return (((bits >> 16) * bound + carry) >> 16).astype(jnp.int32)


def as_uniform(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Convert 32-bit words to float32 in [0, 1), multiples of 2^-24."""
    steps = (bits >> (32 - SIGNIFICAND)).astype(jnp.int32)
    return steps.astype(jnp.float32) * np.float32(2.0**-SIGNIFICAND)


def keep_mask(
    seeds: Seeds, rate: Float[Array, "..."], shape: tuple[int, ...]
) -> Bool[Array, "n ..."]:
    """Return True where an element is kept, with probability 1 - rate.

    Integers are compared, so that every backend decides alike. A rate is rounded up to
    a multiple of 2^-30. Rate 0 keeps all, rate 1 keeps none, and what a rate drops,
    every higher rate drops too.
    """
    return kept(random_bits(seeds, shape), rate)


def kept(bits: UInt32[Array, "..."], rate: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Return `keep_mask` for bits that are already drawn."""
    # In float32 also where arithmetic is in float64: the same decisions in both.
    bound = jnp.ceil(rate.astype(jnp.float32) * np.float32(2.0**RESOLUTION))
    return (bits >> (32 - RESOLUTION)).astype(jnp.int32) >= bound.astype(jnp.int32)


def _element_index(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The row-major index of each element within its row, shape (1, *shape[1:])."""
    row = (1, *shape[1:])
    index = jnp.zeros(row, jnp.uint32)
    for axis in range(1, len(row)):
        stride = np.uint32(np.prod(row[axis + 1 :], dtype=np.int64))
        index += jax.lax.broadcasted_iota(jnp.uint32, row, axis) * stride
    return index


def _mix(word: Integer[Array, "..."]) -> Integer[Array, "..."]:
    """A bijection of 32-bit words in which each input bit flips half of the output.

    The xor-shift-multiply form with the constants of T. Ettinger's search
    (hash-prospector, bias 0.107).
    """
    word = (word ^ (word >> 16)) * np.uint32(0x21F0AAAD)
    word = (word ^ (word >> 15)) * np.uint32(0xD35A2D97)
    return word ^ (word >> 15)
