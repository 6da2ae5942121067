"""Variants that drop whole channels or whole positions."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dropout.arrays import Examples, Positions, Rate, widened
from dropout.bits import Seeds, random_bits, uniform
from dropout.keys import AnyKey
from dropout.noise import (
    dropped_count,
    fixed_rate,
    keep_or_drop,
    keep_unscaled,
    multiply,
    ranks,
    shared,
)

SMALLEST_SCORE = 1e-20


def spatial(key: AnyKey, x: Positions, rate: Rate) -> Positions:
    """Drops whole channels of an example and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x,
        Var[y] = x^2 rate / q, and so for the mean of a channel.
    Mask: (n, 1, ..., 1, c).
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Tompson et al. 2015, "Efficient Object Localization Using Convolutional
        Networks", CVPR (dropout 2d, channel dropout).
    """
    return multiply(shared(keep_or_drop, range(1, x.ndim - 1)), key, x, rate)


def weighted_channel(key: AnyKey, x: Positions, rate: Rate) -> Positions:
    """Keeps a fixed number of channels of an example, the active ones more likely.

    Formula: score_c is the mean of channel c (negative ones count as 0), its lot
        log(u_c) / score_c, u_c ~ U(0, 1); the M channels of the largest lots are kept
        and scaled by sum_c score_c / sum_kept score_c. M is (1 - rate) C, of which a
        fraction is rounded by chance, and at least 1. The sum of all scores is kept
        exactly; E[y] of a single channel is not x.
    Mask: (n, 1, ..., 1, c); no further random step, and none over the batch.
    At test: the identity.
    Domain: rate in [0, 1]; 1 keeps one channel. For features that are not negative.
    Source: Hou & Wang 2019, "Weighted Channel Dropout for Regularization of Deep
        Convolutional Neural Network", AAAI; sampling of Efraimidis & Spirakis 2006.
    """
    values = jax.lax.stop_gradient(widened(x))
    score = values.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
    return multiply(_weighted_noise, key, x, rate, jnp.maximum(score, SMALLEST_SCORE))


def patch(key: AnyKey, x: Positions, rate: Rate, *, prefix: int = 0) -> Positions:
    """Keeps a fixed number of tokens of an example, chosen at random, without scaling.

    Formula: y = m x with exactly K ones per row, K = (1 - rate) T, of which a fraction
        is rounded by chance, and at least 1; T counts the tokens after the first
        `prefix`, which are always kept (a class token). E[y] = x E[K] / T. The dropped
        tokens become zero in place, so that the shape does not depend on the rate.
    Mask: (n, t, 1); on a map all positions of the map, (n, h, w, 1).
    At test: the identity; all tokens.
    Domain: rate in [0, 1]; 1 keeps one token.
    Source: Liu et al. 2023, "PatchDropout: Economizing Vision Transformers Using Patch
        Dropout", WACV.
    """

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        return _kept_tokens(seeds, rate, shape, prefix)

    if not 0 <= prefix < np.prod(x.shape[1:-1]):
        raise ValueError(
            f"patch(prefix={prefix}): expected fewer than the tokens of {x.shape}."
        )
    return multiply(noise, key, x, rate)


def patch_mean(x: Positions, rate: Rate, *, prefix: int = 0) -> Positions:
    """Return E[y] of patch dropout: x times the fraction of tokens that it keeps."""
    count = int(np.prod(x.shape[1:-1])) - prefix
    fraction = 1 - jnp.minimum(fixed_rate(rate, x), 1 - 1 / count)
    token = jnp.arange(count + prefix).reshape(1, *x.shape[1:-1], 1)
    return (widened(x) * jnp.where(token < prefix, 1, fraction)).astype(x.dtype)


def word(key: AnyKey, x: Positions, rate: Rate) -> Positions:
    """Sets whole tokens to zero, without scaling.

    Formula: y = m x, m ~ Bernoulli(1 - rate); E[y] = (1 - rate) x.
    Mask: (n, t, 1), one decision for each token of each example.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for
        Text Classification", ACL.
    """
    return multiply(shared(keep_unscaled, (x.ndim - 1,)), key, x, rate)


def kept_fraction(x: Examples, rate: Rate) -> Examples:
    """Return E[y] of a mask without scaling: (1 - rate) x."""
    return (widened(x) * (1 - fixed_rate(rate, x))).astype(x.dtype)


def _weighted_noise(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...], score: Array
) -> Array:
    u = uniform(seeds, score.shape).astype(score.dtype)
    lots = jnp.log(u + 2.0**-25) / score
    count = dropped_count(seeds, rate, shape[-1])
    dropped = ranks(lots, axis=-1) < count.reshape(-1, *(1,) * (len(shape) - 1))
    lost = jnp.where(dropped, score, 0).sum(-1, keepdims=True)
    left = jnp.where(dropped, 0, score).sum(-1, keepdims=True)
    return jnp.where(dropped, 0, 1 + lost / left)


def _kept_tokens(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...], prefix: int
) -> Array:
    count = int(np.prod(shape[1:-1])) - prefix
    # Lots that end in the token's index cannot tie: exactly `dropped` are too low.
    index_bits = np.uint32(2 ** count.bit_length() - 1)
    index = jnp.arange(count, dtype=jnp.uint32)[None]
    lots = (random_bits(seeds, (shape[0], count)) | index_bits) ^ index
    dropped = dropped_count(seeds, rate, count)
    lowest = jnp.take_along_axis(jnp.sort(lots, axis=1), dropped, axis=1)
    keep = (lots >= lowest).astype(jnp.float32)
    keep = jnp.pad(keep, ((0, 0), (prefix, 0)), constant_values=1)
    return keep.reshape(*shape[:-1], 1)
