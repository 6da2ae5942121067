"""Variants that decide for each element on its own (or, for alpha, each channel)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout import bits
from dropout.arrays import Examples, ExamplesLike, Positions, Rate, widened
from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey
from dropout.noise import (
    drop_elements,
    fixed_rate,
    keep_or_drop,
    keep_scale,
    multiply,
    remade,
    remake,
)

SELU_SATURATION = -1.7580993408473766  # -lambda alpha of the SELU


def bernoulli(key: AnyKey, x: ExamplesLike, rate: Rate) -> ExamplesLike:
    """Drops each element with probability `rate` and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x,
        Var[y] = x^2 rate / q.
    Mask: the shape of x. On a kernel it is DropConnect.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Srivastava et al. 2014, JMLR 15, in the inverted form.
    """
    return remade(drop_elements, keep_or_drop, key, x, rate)


def gaussian(key: AnyKey, x: ExamplesLike, rate: Rate) -> ExamplesLike:
    """Multiplies each element by normal noise with the variance of Bernoulli noise.

    Formula: y = x (1 + s e), e ~ N(0, 1), s^2 = rate / (1 - rate); E[y] = x,
        Var[y] = x^2 rate / (1 - rate).
    Mask: real noise, the shape of x. On a kernel that belongs to an example it draws
        from the Gaussian that matches the moments of DropConnect.
    At test: the identity.
    Domain: rate in [0, 1), since the variance is unbounded; a traced 1 gives zeros.
    Source: Srivastava et al. 2014, section 10.
    """
    return remade(_with_normal_noise, _normal_noise, key, x, rate)


def uniform(key: AnyKey, x: ExamplesLike, rate: Rate) -> ExamplesLike:
    """Multiplies each element by uniform noise around 1 (Uout); `rate` is its beta.

    Formula: y = x (1 + r), r ~ U(-rate, rate); E[y] = x, Var[y] = x^2 rate^2 / 3.
    Mask: real noise, the shape of x.
    At test: the identity.
    Domain: rate in [0, 1]; no value of it drops anything.
    Source: Li et al. 2019, "Understanding the Disharmony between Dropout and Batch
        Normalization by Variance Shift", CVPR.
    """
    return multiply(_uniform_noise, key, x, rate)


def alpha(key: AnyKey, x: Examples, rate: Rate) -> Examples:
    """Sets each element to SELU's saturation with probability `rate`, then restores
    mean 0 and variance 1.

    Formula: y = A (m x + (1 - m) a) + B, a = -1.7580993, A = (q (1 + a^2 rate))^-1/2,
        B = -A rate a, m ~ Bernoulli(q), q = 1 - rate. Where x has mean 0 and variance 1
        over the data, so has y; for a given x, E[y] = A q x + A rate a + B.
    Mask: the shape of x.
    At test: the identity.
    Domain: rate in [0, 1), since A has no limit at 1; a traced 1 gives zeros.
    Source: Klambauer et al. 2017, "Self-Normalizing Neural Networks", NeurIPS.
    """
    return _saturate(key, x, rate, x.shape)


def feature_alpha(key: AnyKey, x: Positions, rate: Rate) -> Positions:
    """Applies alpha dropout to whole channels.

    Formula: as alpha, with one decision for each example and channel.
    Mask: (n, 1, ..., 1, c).
    At test: the identity.
    Domain: rate in [0, 1), as alpha.
    Source: Klambauer et al. 2017, with the mask of Tompson et al. 2015.
    """
    mask = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return _saturate(key, x, rate, mask)


def max_dropout(key: AnyKey, x: Examples, rate: Rate) -> Examples:
    """Drops the largest elements of each example, without scaling; nothing is random.

    Formula: y = 0 where x - min x > (1 - rate) (max x - min x), else x. `rate` is a
        threshold, not a fraction: after one outlier almost nothing is dropped.
    Mask: the shape of x; minimum and maximum are of each example, where the authors'
        code takes them over the batch.
    At test: the identity, though E[y] is below x.
    Domain: rate in [0, 1]; 1 drops all but the smallest elements.
    Source: dos Santos et al. 2020, "MaxDropout", ICPR, as in the authors' code.
    """
    return drop_largest(x, rate)


def drop_largest(x: Examples, rate: Rate) -> Examples:
    """Apply max dropout, which needs no key."""
    values = jax.lax.stop_gradient(widened(x))
    axes = tuple(range(1, x.ndim))
    lowest = values.min(axes, keepdims=True)
    height = values.max(axes, keepdims=True) - lowest
    return jnp.where(values - lowest > (1 - fixed_rate(rate, x)) * height, 0, x)


def alpha_mean(x: Examples, rate: Rate) -> Examples:
    """Return E[y] of alpha dropout given x; only the mean over the data is kept."""
    rate = fixed_rate(rate, x)
    scale, shift, saturated = _alpha_terms(rate)
    mean = (1 - rate) * (scale * widened(x) + shift) + rate * saturated
    return mean.astype(x.dtype)


def _saturate(key: AnyKey, x: Examples, rate: Rate, mask: tuple[int, ...]) -> Examples:
    @remake
    def saturated_or_kept(seeds: Seeds, rate: Array, x: Examples) -> Examples:
        scale, shift, saturated = _alpha_terms(rate)
        moved = (widened(x) * scale + shift).astype(x.dtype)
        moved = jnp.where(rate == 0, x, moved)
        return jnp.where(keep_mask(seeds, rate, mask), moved, saturated.astype(x.dtype))

    return saturated_or_kept(row_seeds(key, x.shape[0]), fixed_rate(rate, x), x)


def _alpha_terms(rate: Float[Array, ""]) -> tuple[Array, Array, Array]:
    """Alpha dropout's A, B and A a + B, all finite at rate 1, where the last is 0."""
    a = SELU_SATURATION
    scale = jnp.sqrt(keep_scale(rate) / (1 + a * a * rate))
    return scale, -scale * rate * a, scale * (1 - rate) * a


def _with_normal_noise(seeds: Seeds, rate: Float[Array, ""], x: Examples) -> Examples:
    # One comparison of the rate for all elements, where `scale` compares each factor.
    noisy = (widened(x) * _around_one(seeds, rate, x.shape)).astype(x.dtype)
    return jnp.where(rate == 0, x, jnp.where(rate < 1, noisy, 0))


def _normal_noise(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
) -> Array:
    return jnp.where(rate < 1, _around_one(seeds, rate, shape), 0)


def _around_one(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
    deviation = jnp.sqrt(rate * keep_scale(rate))
    return 1 + deviation * bits.normal(seeds, shape).astype(rate.dtype)


def _uniform_noise(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
) -> Array:
    return 1 + rate * (2 * bits.uniform(seeds, shape).astype(rate.dtype) - 1)
