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
Linear = Callable[..., Array]  # (seeds, rate, x, *given) -> y

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
    other = backward or noise
    return remade(
        partial(_times, noise), key, x, rate, *given, backward=partial(_times, other)
    )


def remade(
    linear: Linear,
    key: AnyKey,
    x: Float[Array, "n ..."],
    rate: Rate,
    *given: Array,
    backward: Linear | None = None,
) -> Float[Array, "n ..."]:
    """`linear(seeds, rate, x, *given)`, whose derivative is the same of the cotangent.

    It draws again from the row seeds, so that nothing of the size of `x` is kept. The
    arguments are those of `multiply`; `linear` and `backward` are linear in x and their
    own transposes, as all that acts element by element.
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
    """`x * factor` in the dtype of `x`: 0 where the factor is 0, `x` where it is 1."""
    product = (x.astype(jnp.float32) * factor).astype(x.dtype)
    # The processor may flush subnormal products to zero: a factor of 1 must not.
    return jnp.where(factor == 1, x, jnp.where(factor == 0, 0, product))


def keep_scale(rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 / (1 - rate), finite at rate 1."""
    return 1 / jnp.maximum(1 - rate, SMALLEST_KEEP)


def drop_elements(seeds: Seeds, rate: Float[Array, ""], x: Array) -> Array:
    """`x / (1 - rate)` with probability 1 - rate, else 0, element by element."""
    # A mask and one scale: a factor an element costs a fifth more.
    kept = keep_mask(seeds, rate, x.shape)
    return jnp.where(kept, scale(x, keep_scale(rate)), 0)


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
