"""Dropout with each of JAX's generators, by Flax and by hand."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

# `jax_default_prng_impl` takes these names; the first is the default.
GENERATORS = (
    "threefry2x32", "threefry4x32", "philox2x32", "philox4x32", "rbg", "unsafe_rbg",
)  # fmt: skip


def generator_dropouts() -> dict[str, Callable[..., Array]]:
    """Return both dropouts with every generator, by the names of tables."""
    return {
        f"{name}, {generator}": partial(dropout, generator)
        for name, dropout in (
            ("flax.nnx.Dropout", nnx_dropout),
            ("jax.random.bernoulli", bernoulli_dropout),
        )
        for generator in GENERATORS
    }


def nnx_dropout(
    generator: str, key: Key[Array, ""], rate: Float[Array, ""], x: Array
) -> Array:
    """Apply Flax NNX's Dropout, whose rate is a constant."""
    rngs = nnx.Rngs(generator_key(generator, key))
    return nnx.Dropout(0.5, deterministic=False)(x, rngs=rngs)


def bernoulli_dropout(
    generator: str, key: Key[Array, ""], rate: Float[Array, ""], x: Array
) -> Array:
    """Apply dropout as one writes it by hand."""
    keep = 1 - rate
    kept = jax.random.bernoulli(generator_key(generator, key), keep, x.shape)
    return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


def generator_key(generator: str, key: Key[Array, ""]) -> Key[Array, ""]:
    """Return a key of another generator, which follows from `key`.

    It is made within the program that is timed, from an argument, since the compiler
    would compute the mask of a constant key once and for all.
    """
    return jax.random.key(jax.random.bits(key, (), jnp.uint32), impl=generator)
