"""Noise that the backward pass makes again from its seeds, so that no mask is stored.

`multiply` serves the variants that multiply by noise. `remake` serves the others: any
function of seeds, of which nothing but its arguments is kept for the backward pass.
"""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey

Rate = Float[Array, ""] | float
Shape = tuple[int, ...]
Noise = Callable[..., Float[Array, "..."]]  # (seeds, rate, shape, *given) -> factor

SMALLEST_KEEP = 2.0**-24

remake = partial(jax.checkpoint, prevent_cse=False)


def fixed_rate(rate: Rate) -> Float[Array, ""]:
    """`rate` as a float32 scalar through which no gradient flows."""
    return jax.lax.stop_gradient(jnp.asarray(rate, jnp.float32))


def multiply(
    noise: Noise,
    key: AnyKey,
    x: Float[Array, "n ..."],
    rate: Rate,
    *given: Array,
    backward: Noise | None = None,
) -> Float[Array, "n ..."]:
    """`x * noise(seeds, rate, x.shape, *given)`, in the dtype of `x`, keeping no mask.

    The derivative is the same multiplication of the cotangent: it makes the noise again
    from the row seeds. Where the noise is 0 the result is 0, whatever `x` is there, and
    where it is 1 the result is `x`, bit for bit.

    Args:
        noise: the factor, of a shape that broadcasts to that of `x`.
        key: a scalar, or one a row.
        x: a batch of rows.
        rate: may be traced.
        *given: what else the noise depends on, kept for the backward pass; no gradient
            flows into it.
        backward: another noise for the derivative, where a variant asks for one.
    """
    seeds = row_seeds(key, x.shape[0])
    return _multiply(noise, backward or noise, seeds, fixed_rate(rate), given, x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _multiply(
    noise: Noise, backward: Noise, seeds: Seeds, rate: Array, given: tuple, x: Array
) -> Array:
    return scale(x, noise(seeds, rate, x.shape, *given))


def _forward(
    noise: Noise, backward: Noise, seeds: Seeds, rate: Array, given: tuple, x: Array
) -> tuple:
    return _multiply(noise, backward, seeds, rate, given, x), (seeds, rate, given)


def _backward(
    noise: Noise, backward: Noise, residuals: tuple, cotangent: Array
) -> tuple:
    return None, None, None, _multiply(backward, backward, *residuals, cotangent)


_multiply.defvjp(_forward, _backward)


def scale(x: Array, factor: Float[Array, "..."]) -> Array:
    """`x * factor` in the dtype of `x`: 0 where the factor is 0, `x` where it is 1."""
    product = (x.astype(jnp.float32) * factor).astype(x.dtype)
    # The processor may flush subnormal products to zero: a factor of 1 must not.
    return jnp.where(factor == 1, x, jnp.where(factor == 0, 0, product))


def keep_scale(rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 / (1 - rate), finite at rate 1."""
    return 1 / jnp.maximum(1 - rate, SMALLEST_KEEP)


def keep_or_drop(
    seeds: Seeds, rate: Float[Array, ""], shape: Shape
) -> Float[Array, "..."]:
    """1 / (1 - rate) with probability 1 - rate, else 0: inverted Bernoulli noise."""
    return jnp.where(keep_mask(seeds, rate, shape), keep_scale(rate), 0)


def keep_unscaled(
    seeds: Seeds, rate: Float[Array, ""], shape: Shape
) -> Float[Array, "..."]:
    """1 with probability 1 - rate, else 0."""
    return keep_mask(seeds, rate, shape).astype(jnp.float32)


def shared(noise: Noise, axes: Iterable[int]) -> Noise:
    """`noise` with one value for all positions along `axes`."""
    along = frozenset(axes)

    def drawn_once(seeds: Seeds, rate: Float[Array, ""], shape: Shape):
        return noise(
            seeds, rate, tuple(1 if i in along else n for i, n in enumerate(shape))
        )

    return drawn_once


def ranks(values: Array, axis: int) -> Int[Array, "..."]:
    """The place of each value along `axis` in ascending order; of ties the first."""
    order = jnp.argsort(values, axis=axis, stable=True)
    return jnp.argsort(order, axis=axis, stable=True)


def whole_part(rate: Float[Array, ""], count: int) -> Int[Array, ""]:
    """How many of `count` things a rate drops when it must be a whole number: rounded,
    and never all of them."""
    dropped = jnp.round(rate * np.float32(count)).astype(jnp.int32)
    return jnp.minimum(dropped, count - 1)
