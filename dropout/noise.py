"""Noise that the backward pass makes again from its seeds, so that no mask is stored.

Variants that multiply by noise use `multiply`. Others use `remake`: it wraps any
function of seeds, and keeps nothing but its arguments for the backward pass.
"""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dropout.arrays import Examples
from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey

Rate = Float[Array, ""] | float
Noise = Callable[..., Float[Array, "..."]]  # (seeds, rate, shape, *given) -> factor
Linear = Callable[..., Array]  # (seeds, rate, x, *given) -> y

SMALLEST_KEEP = 2.0**-24

remake = partial(jax.checkpoint, prevent_cse=False)


def fixed_rate(rate: Rate) -> Float[Array, ""]:
    """Return `rate` as a float32 scalar through which no gradient flows."""
    return jax.lax.stop_gradient(jnp.asarray(rate, jnp.float32))


def multiply(
    noise: Noise,
    key: AnyKey,
    x: Examples,
    rate: Rate,
    *given: Array,
    backward: Noise | None = None,
) -> Examples:
    """Return `x * noise(seeds, rate, x.shape, *given)` without keeping a mask.

    It has the dtype of `x`. The derivative multiplies the cotangent by the same noise,
    which it makes again from the row seeds. Where the noise is 0 the result is 0,
    whatever `x` is there, and where it is 1 the result is `x`, bit for bit.

    Args:
        noise: the factor, of a shape that broadcasts to `x.shape`.
        key: one key, or one per row.
        x: a batch of rows.
        rate: may be traced.
        *given: other arrays that the noise depends on, kept for the backward pass; no
            gradient flows into them.
        backward: the noise of the derivative, where a variant has another one there.
    """
    other = backward or noise
    return remade(
        partial(_times, noise), key, x, rate, *given, backward=partial(_times, other)
    )


def remade(
    linear: Linear,
    key: AnyKey,
    x: Examples,
    rate: Rate,
    *given: Array,
    backward: Linear | None = None,
) -> Examples:
    """Return `linear(seeds, rate, x, *given)`; the cotangent passes through it too.

    The derivative draws again from the row seeds, so that nothing of the size of `x` is
    kept. The arguments are as in `multiply`; `linear` and `backward` must be linear in
    x and their own transposes, as is all that acts element by element.
    """
    seeds = row_seeds(key, x.shape[0])
    return _remade(linear, backward or linear, seeds, fixed_rate(rate), given, x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _remade(
    linear: Linear, backward: Linear, seeds: Seeds, rate: Array, given: tuple, x: Array
) -> Array:
    return linear(seeds, rate, x, *given)


def _forward(
    linear: Linear, backward: Linear, seeds: Seeds, rate: Array, given: tuple, x: Array
) -> tuple:
    return linear(seeds, rate, x, *given), (seeds, rate, given)


def _backward(
    linear: Linear, backward: Linear, residuals: tuple, cotangent: Array
) -> tuple:
    seeds, rate, given = residuals
    return None, None, None, _remade(backward, backward, seeds, rate, given, cotangent)


_remade.defvjp(_forward, _backward)


def _times(noise: Noise, seeds: Seeds, rate: Array, x: Array, *given: Array) -> Array:
    return scale(x, noise(seeds, rate, x.shape, *given))


def scale(x: Array, factor: Float[Array, "..."]) -> Array:
    """Return `x * factor` in the dtype of `x`: exactly 0 or `x` at a factor 0 or 1."""
    product = (x.astype(jnp.float32) * factor).astype(x.dtype)
    # The processor may flush subnormal products to zero: a factor of 1 must not.
    return jnp.where(factor == 1, x, jnp.where(factor == 0, 0, product))


def keep_scale(rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return 1 / (1 - rate), finite at rate 1."""
    return 1 / jnp.maximum(1 - rate, SMALLEST_KEEP)


def drop_elements(seeds: Seeds, rate: Float[Array, ""], x: Array) -> Array:
    """Return, per element, `x / (1 - rate)` with probability 1 - rate, else 0."""
    # One scale for all elements: multiplying each by its own factor costs more
    # (`python -m benchmarks.variants` shows the cost).
    kept = keep_mask(seeds, rate, x.shape)
    return jnp.where(kept, scale(x, keep_scale(rate)), 0)


def keep_or_drop(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Return inverted Bernoulli noise: 1 / (1 - rate) where kept, else 0."""
    return jnp.where(keep_mask(seeds, rate, shape), keep_scale(rate), 0)


def keep_unscaled(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Return 1 with probability 1 - rate, else 0."""
    return keep_mask(seeds, rate, shape).astype(jnp.float32)


def shared(noise: Noise, axes: Iterable[int]) -> Noise:
    """Return `noise` with one value for all positions along `axes`."""
    along = frozenset(axes)

    def drawn_once(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]):
        return noise(
            seeds,
            rate,
            tuple(1 if axis in along else length for axis, length in enumerate(shape)),
        )

    return drawn_once


def ranks(values: Array, axis: int) -> Int[Array, "..."]:
    """Return the rank of each value along `axis`, ascending; ties keep their order."""
    order = jnp.argsort(values, axis=axis, stable=True)
    return jnp.argsort(order, axis=axis, stable=True)


def whole_part(rate: Float[Array, ""], count: int) -> Int[Array, ""]:
    """Return how many of `count` things a rate drops: rounded, and never all."""
    dropped = jnp.round(rate * np.float32(count)).astype(jnp.int32)
    return jnp.minimum(dropped, count - 1)
