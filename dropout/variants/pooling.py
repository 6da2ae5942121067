"""Variants that act inside a pooling window, before the largest value is taken."""

from collections.abc import Callable
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dropout.arrays import Maps, Rate, widened
from dropout.bits import Seeds, keep_mask, named_seeds, row_seeds, uniform
from dropout.deferred import Deferred
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, keep_unscaled, multiply, remake

Pooled = Float[Array, "n rows columns channels"]
Windows = Float[Array, "n rows columns channels window"]
Pool = Callable[..., Pooled]  # a partial with window, strides and padding


def max_pool(key: AnyKey, x: Maps | Deferred, rate: Rate, pool: Pool) -> Pooled:
    """Drops inputs of a max-pooling, which may then return less than the largest one.

    Formula: y = max of m x over the window, m ~ Bernoulli(q), q = 1 - rate, unscaled.
        With the window sorted, a_1 <= ... <= a_n: P(y = a_i) = q rate^(n - i),
        P(y = 0, all dropped) = rate^n.
    Mask: the shape of x.
    At test: sum_i q rate^(n - i) a_i, which is E[y] (probabilistic weighted pooling).
        Negative a_i count as 0, and a window of negative values alone gives q^n a_n
        (passed on when all are kept): E[y] for any sign.
    Domain: rate in [0, 1]; 1 gives zeros. Published for features that are not negative.
    Source: Wu & Gu 2015, "Towards dropout training for convolutional neural networks",
        Neural Networks.
    """
    return pool(multiply(keep_unscaled, key, x, rate))


def weighted_max_pool(x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Weight every rank of the window by its chance: max-pooling dropout at test."""
    rate, values = fixed_rate(rate, x), windows(x, pool)
    ascending = _ascending(jnp.moveaxis(widened(values), -1, 0))
    all_kept = (1 - rate) ** _inside(values).sum(-1, dtype=rate.dtype)
    mean = jnp.minimum(ascending[-1], 0) * all_kept
    for above, value in enumerate(reversed(ascending)):
        mean += (1 - rate) * rate**above * jnp.maximum(value, 0)
    return mean.astype(x.dtype)


def scaled_max_pool(x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Scale the largest value by 1 - rate: weight scaling of max-pooling dropout."""
    return pool(x) * (1 - fixed_rate(rate, x)).astype(x.dtype)


def stochastic_pool(key: AnyKey, x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Picks one value of each window with a probability proportional to it.

    Formula: with probability `rate` y = a_i, i chosen with probability a_i / sum_j a_j;
        else the largest value. Negative values are not chosen; a window without a
        positive value gives its largest value.
    Mask: one choice for each window and channel.
    At test: rate sum_i a_i^2 / sum_i a_i + (1 - rate) max_i a_i, which is E[y].
    Domain: rate in [0, 1]; 1 is the published form. For features that are not negative.
    Source: Zeiler & Fergus 2013, arXiv:1301.3557.
    """
    values = windows(x, pool)
    *shape, count = values.shape
    weights = _weights(values)
    cumulative = jnp.stack(list(accumulate(jnp.moveaxis(weights, -1, 0))), -1)
    lot = uniform(named_seeds(key, "choice", x.shape[0]), tuple(shape))
    lot = lot.astype(weights.dtype)
    below = cumulative <= (lot * cumulative[..., -1])[..., None]
    choice = jnp.minimum(below.sum(-1), count - 1)
    seeds = row_seeds(key, x.shape[0])
    largest = keep_mask(seeds, fixed_rate(rate, x), tuple(shape))
    largest = largest | (cumulative[..., -1] <= 0)
    choice = jnp.where(largest, values.argmax(-1), choice)[..., None]
    return jnp.take_along_axis(values, choice, axis=-1, mode="clip")[..., 0]


def expected_pool(x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Return the expectation of stochastic pooling, its form at test."""
    values, rate = widened(windows(x, pool)), fixed_rate(rate, x)
    weights = _weights(values)
    total, largest = weights.sum(-1), values.max(-1)
    mean = (weights * values).sum(-1) / jnp.where(total > 0, total, 1)
    mean = jnp.where(total > 0, mean, largest)
    return (rate * mean + (1 - rate) * largest).astype(x.dtype)


def mixed_pool(key: AnyKey, x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Takes the mean of a window, not its largest value, with probability `rate`.

    Formula: y = d mean_i a_i + (1 - d) max_i a_i, d ~ Bernoulli(rate); the mean is over
        the values inside the map, without the padding.
    Mask: one choice for each window and channel.
    At test: rate mean_i a_i + (1 - rate) max_i a_i, which is E[y].
    Domain: rate in [0, 1]; 0 is maximum pooling, 1 average pooling. Published at 0.5.
    Source: Yu et al. 2014, "Mixed Pooling for Convolutional Neural Networks", RSKT.
    """

    @remake
    def largest_or_mean(seeds: Seeds, rate: Array, x: Maps) -> Pooled:
        largest = pool(x)
        takes_largest = keep_mask(seeds, rate, largest.shape)
        return jnp.where(takes_largest, largest, _mean_pool(x, pool).astype(x.dtype))

    return largest_or_mean(row_seeds(key, x.shape[0]), fixed_rate(rate, x), x)


def expected_mixed_pool(x: Maps, rate: Rate, pool: Pool) -> Pooled:
    """Return the expectation of mixed pooling, its form at test."""
    rate = fixed_rate(rate, x)
    mixed = rate * _mean_pool(x, pool) + (1 - rate) * widened(pool(x))
    return mixed.astype(x.dtype)


def windows(x: Maps, pool: Pool) -> Windows:
    """Return the values that each window of `pool` sees, along a last axis.

    Values in the padding are the lowest number, which is never the largest, as in the
    pool itself. `window`, `strides` and `padding`, by name or as pixels before and
    after, are keywords of the partial `pool`.
    """
    size, strides = pool.keywords["window"], pool.keywords["strides"]
    padding = pool.keywords["padding"]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], size, strides, padding)
    borders = ((0, 0), *padding, (0, 0))
    padded = jnp.pad(x, borders, constant_values=jnp.finfo(x.dtype).min)
    rows, columns = (
        (length - extent) // stride + 1
        for length, extent, stride in zip(padded.shape[1:3], size, strides, strict=True)
    )
    corners = np.ndindex(*size)
    return jnp.stack(
        [
            padded[
                :,
                top : top + (rows - 1) * strides[0] + 1 : strides[0],
                left : left + (columns - 1) * strides[1] + 1 : strides[1],
            ]
            for top, left in corners
        ],
        axis=-1,
    )


def _inside(values: Windows) -> Bool[Array, "n rows columns channels window"]:
    """True for the values that are not of the padding."""
    return values > jnp.finfo(values.dtype).min


def _mean_pool(x: Maps, pool: Pool) -> Pooled:
    """The mean over each window, in the precision of arithmetic."""
    values = windows(x, pool)
    inside = _inside(values)
    total = jnp.where(inside, widened(values), 0).sum(-1)
    return total / inside.sum(-1, dtype=total.dtype)


def _ascending(values: Array) -> list[Array]:
    """The arrays along the first axis, sorted elementwise.

    By odd-even transposition: XLA's sort of so few values is slow on the CPU.
    """
    ordered = list(values)
    for turn in range(len(ordered)):
        for first in range(turn % 2, len(ordered) - 1, 2):
            pair = ordered[first], ordered[first + 1]
            ordered[first], ordered[first + 1] = jnp.minimum(*pair), jnp.maximum(*pair)
    return ordered


def _weights(values: Windows) -> Windows:
    """How likely each value is, up to a factor."""
    return jnp.maximum(widened(values), 0)
