"""Noise that the backward pass makes again from its seeds, so that no mask is stored.

Variants that multiply by noise use `multiply`. Others use `remake`: it wraps any
function of seeds, and keeps nothing but its arguments for the backward pass. Both are
differentiated by JAX itself, so that forward mode, reverse mode and `vmap` all work.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dropout.arrays import Examples, ExamplesLike, Rate, wide_dtype, widened
from dropout.bits import Seeds, as_uniform, keep_mask, random_bits, row_seeds
from dropout.deferred import Deferred
from dropout.keys import AnyKey

Noise = Callable[..., Float[Array, "..."]]  # (seeds, rate, shape, *given) -> factor
Linear = Callable[..., Array]  # (seeds, rate, x, *given) -> y

SMALLEST_KEEP = 2.0**-24

remake = partial(jax.checkpoint, prevent_cse=False)


def fixed_rate(rate: Rate, x: Array | Deferred) -> Float[Array, ""]:
    """Return `rate` in the precision of `widened(x)`; no gradient flows through it."""
    return jax.lax.stop_gradient(jnp.asarray(rate, wide_dtype(x)))


def multiply(
    noise: Noise, key: AnyKey, x: ExamplesLike, rate: Rate, *given: Array
) -> ExamplesLike:
    """Return `x * noise(seeds, rate, x.shape, *given)` without keeping a mask.

    It has the dtype of `x`. The derivative multiplies by the same noise, which it makes
    again from the row seeds. Where the noise is 0 the result is 0, whatever `x` is
    there, and where it is 1 the result is `x`, bit for bit.

    Args:
        noise: the factor, of a shape that broadcasts to `x.shape`.
        key: one key, or one per row.
        x: a batch of rows.
        rate: may be traced.
        *given: other arrays that the noise depends on, kept for the backward pass; no
            gradient flows into them.
    """
    return remade(partial(_times, noise), noise, key, x, rate, *given)


def remade(
    linear: Linear,
    noise: Noise,
    key: AnyKey,
    x: ExamplesLike,
    rate: Rate,
    *given: Array,
) -> ExamplesLike:
    """Return `linear(seeds, rate, x, *given)`, whose derivative draws again.

    `linear` multiplies x by the noise in a form that is faster than `scale`. The
    backward pass needs no more than the row seeds, the rate and `given`. The arguments
    are as in `multiply`. If x is a `Deferred`, it gets the noise to draw later.
    """
    seeds = row_seeds(key, x.shape[0])
    given, rate = jax.lax.stop_gradient(given), fixed_rate(rate, x)
    if isinstance(x, Deferred):
        return cast(ExamplesLike, x.times(noise, seeds, rate, given))
    return remake(linear)(seeds, rate, x, *given)


def times(
    noise: Noise, seeds: Seeds, rate: Float[Array, ""], x: Array, *given: Array
) -> Array:
    """Return `x * noise(seeds, rate, x.shape, *given)`, as `multiply` does."""
    return remake(partial(_times, noise))(seeds, rate, x, *given)


def multiply_twice(
    noise: Noise, derivative: Noise, key: AnyKey, x: Examples, rate: Rate
) -> Examples:
    """Return `multiply` by `noise`, with a derivative that multiplies by another noise.

    Forward and reverse mode, and derivatives of any order, use `derivative`.
    """
    seeds = row_seeds(key, x.shape[0])
    return _forward(noise, derivative, seeds, fixed_rate(rate, x), x)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _forward(
    noise: Noise, derivative: Noise, seeds: Seeds, rate: Float[Array, ""], x: Array
) -> Array:
    return _times(noise, seeds, rate, x)


@_forward.defjvp
def _forward_and_derivative(
    noise: Noise, derivative: Noise, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    seeds, rate, x = primals
    tangent = remake(partial(_times, derivative))(seeds, rate, tangents[2])
    return _times(noise, seeds, rate, x), tangent


def _times(
    noise: Noise, seeds: Seeds, rate: Float[Array, ""], x: Array, *given: Array
) -> Array:
    return scale(x, noise(seeds, rate, x.shape, *given))


def scale(x: Array, factor: Float[Array, "..."]) -> Array:
    """Return `x * factor` in the dtype of `x`: exactly 0 or `x` at a factor 0 or 1."""
    wide = widened(x)
    product = (wide * factor.astype(wide.dtype)).astype(x.dtype)
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


class KeepOrDrop(NamedTuple):
    """Noise that is 0 where an element is dropped, and else one positive number.

    Attributes:
        kept: (seeds, rate, shape) -> what is kept, of a shape that broadcasts.
        scale: rate -> the number.
    """

    kept: Callable[..., Bool[Array, "..."]]
    scale: Callable[[Float[Array, ""]], Float[Array, ""]]

    def __call__(
        self, seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
    ) -> Float[Array, "..."]:
        """Draw the noise."""
        return jnp.where(self.kept(seeds, rate, shape), self.scale(rate), 0)


# Inverted Bernoulli noise: 1 / (1 - rate) with probability 1 - rate, else 0.
keep_or_drop = KeepOrDrop(keep_mask, keep_scale)
# 1 with probability 1 - rate, else 0.
keep_unscaled = KeepOrDrop(keep_mask, lambda rate: jnp.ones((), jnp.float32))


def shared(noise: Noise, axes: Iterable[int]) -> Noise:
    """Return `noise` with one value for all positions along `axes`."""
    if isinstance(noise, KeepOrDrop):
        return noise._replace(kept=shared(noise.kept, axes))
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
    return jnp.argsort(order, axis=axis, stable=True).astype(jnp.int32)


def dropped_count(
    seeds: Seeds, rate: Float[Array, ""], count: int
) -> Int[Array, "n 1"]:
    """Return how many of `count` things each row drops: rate * count, and never all.

    A fraction is rounded up with the probability that makes the mean right; what a
    rate drops, every higher rate drops too.
    """
    # The last of `count` + 1 words: the others are those of the things themselves.
    words = random_bits(seeds, (seeds.shape[0], count + 1))[:, count:]
    expected = rate.astype(jnp.float32) * np.float32(count)
    return jnp.minimum(jnp.floor(expected + as_uniform(words)), count - 1).astype(
        jnp.int32
    )
