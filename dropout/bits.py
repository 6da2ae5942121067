"""Random bits as a pure function of (row seed, element index), cheap enough to fuse.

A row's seed is two words drawn from its JAX key with JAX's own generator. An element's
bits are two rounds of a 32-bit mixer over the element's index and those words, so XLA
evaluates them inside the loop that uses them: nothing of the mask's size is drawn into
memory, and the backward pass makes the same bits again.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from dropout.keys import AnyKey, JaxBits, row_keys

Seeds = UInt32[Array, "n 2"] | Key[Array, " n"]
RESOLUTION = 24  # bits of a decision: the significand of float32


def row_seeds(key: AnyKey, rows: int) -> Seeds:
    """What the bits of each row are made from: two words a row, or the rows' keys."""
    if isinstance(key, JaxBits):
        return row_keys(key.key, rows)
    words = jax.vmap(lambda row: jax.random.bits(row, (2,), jnp.uint32))
    return words(row_keys(key, rows))


def random_bits(seeds: Seeds, shape: tuple[int, ...]) -> UInt32[Array, "n ..."]:
    """Uniform 32-bit words of `shape` (n, ...), row by row from `seeds`."""
    if jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        return jax.vmap(lambda row: jax.random.bits(row, shape[1:], jnp.uint32))(seeds)
    first, second = (
        seeds[:, word].reshape((-1,) + (1,) * (len(shape) - 1)) for word in (0, 1)
    )
    return _mix(_mix(_element_index(shape) ^ first) + second)


def uniform(seeds: Seeds, shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Uniform float32 in [0, 1), multiples of 2^-24."""
    steps = (random_bits(seeds, shape) >> (32 - RESOLUTION)).astype(jnp.int32)
    return steps.astype(jnp.float32) * np.float32(2.0**-RESOLUTION)


def keep_mask(
    seeds: Seeds, rate: Float[Array, "..."], shape: tuple[int, ...]
) -> Bool[Array, "n ..."]:
    """True where kept, with probability 1 - `rate`, as `uniform >= rate` would decide.

    Compared as integers, so that every backend decides alike. Rate 0 keeps all, rate 1
    keeps none, and what a rate drops, every higher rate drops too.
    """
    steps = (random_bits(seeds, shape) >> (32 - RESOLUTION)).astype(jnp.int32)
    return steps >= jnp.ceil(rate * np.float32(2.0**RESOLUTION)).astype(jnp.int32)


def _element_index(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The row-major index of each element within its row, shape (1, *shape[1:])."""
    row = (1, *shape[1:])
    index = jnp.zeros(row, jnp.uint32)
    for axis in range(1, len(row)):
        stride = np.uint32(np.prod(row[axis + 1 :], dtype=np.int64))
        index += jax.lax.broadcasted_iota(jnp.uint32, row, axis) * stride
    return index


def _mix(word: Int[Array, "..."]) -> Int[Array, "..."]:
    """A bijection of 32-bit words in which each input bit flips half of the output.

    The xor-shift-multiply form with the constants of T. Ettinger's search
    (hash-prospector, bias 0.107).
    """
    word = (word ^ (word >> 16)) * np.uint32(0x21F0AAAD)
    word = (word ^ (word >> 15)) * np.uint32(0xD35A2D97)
    return word ^ (word >> 15)
