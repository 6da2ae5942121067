"""Multiplicative noise whose mask is made again in the backward pass, never stored."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey

Rate = Float[Array, ""] | float
Shape = tuple[int, ...]
Noise = Callable[[Seeds, Float[Array, ""], Shape], Float[Array, "..."]]

SMALLEST_KEEP = 2.0**-24


def fixed_rate(rate: Rate) -> Float[Array, ""]:
    """`rate` as a float32 scalar through which no gradient flows."""
    return jax.lax.stop_gradient(jnp.asarray(rate, jnp.float32))


def multiply(
    noise: Noise, key: AnyKey, x: Float[Array, "n ..."], rate: Rate
) -> Float[Array, "n ..."]:
    """`x * noise(seeds, rate, x.shape)`, in the dtype of `x`, keeping no mask.

    The derivative is the same multiplication of the cotangent: it makes the noise again
    from the row seeds. Where the noise is 0 the result is 0, whatever `x` is there.
    """
    return _multiply(noise, row_seeds(key, x.shape[0]), fixed_rate(rate), x)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _multiply(noise: Noise, seeds: Seeds, rate: Array, x: Array) -> Array:
    factor = noise(seeds, rate, x.shape)
    return jnp.where(factor == 0, 0, x.astype(jnp.float32) * factor).astype(x.dtype)


def _forward(noise: Noise, seeds: Seeds, rate: Array, x: Array) -> tuple:
    return _multiply(noise, seeds, rate, x), (seeds, rate)


def _backward(noise: Noise, residuals: tuple, cotangent: Array) -> tuple:
    return None, None, _multiply(noise, *residuals, cotangent)


_multiply.defvjp(_forward, _backward)


def keep_or_drop(
    seeds: Seeds, rate: Float[Array, ""], shape: Shape
) -> Float[Array, "..."]:
    """1 / (1 - rate) with probability 1 - rate, else 0: inverted Bernoulli noise."""
    scale = 1 / jnp.maximum(1 - rate, SMALLEST_KEEP)
    return jnp.where(keep_mask(seeds, rate, shape), scale, 0)
