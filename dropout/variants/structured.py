"""Variants that drop whole channels or whole positions."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dropout.arrays import Examples, Positions, PositionsLike, Rate, widened
from dropout.bits import Seeds, integers, kept, random_bits, uniform
from dropout.deferred import Deferred
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
KeptSizes = Literal["all", "powers"]


def spatial(key: AnyKey, x: PositionsLike, rate: Rate) -> PositionsLike:
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


def patch(
    key: AnyKey, x: PositionsLike, rate: Rate, *, prefix: int = 0
) -> PositionsLike:
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


def nested(
    key: AnyKey,
    x: PositionsLike,
    rate: Rate,
    *,
    sizes: KeptSizes = "all",
    first: int = 0,
) -> PositionsLike:
    """Keeps only the first channels of an example, with probability `rate`.

    Formula: with probability `rate` y_c = x_c for the first k channels and 0 for the
        others, without scaling; else y = x. k is uniform on 1, ..., C; with
        sizes="powers" it is uniform on the powers of two below C, and C.
        E[y_c] = x_c (1 - rate P), P the chance that k does not reach the channel.
        Earlier channels learn to carry more.
    Mask: (n, 1, ..., 1, c), which falls along the channels.
    At test: the identity; with first=k the first k channels alone, a smaller network.
    Domain: rate in [0, 1]; 1, a draw of k for every example, is the published form.
    Source: Rippel et al. 2014, "Learning Ordered Representations with Nested Dropout",
        ICML, where k has a geometric distribution.
    """
    _check_first(first, x)
    choices = jnp.asarray(_nested_sizes(x.shape[-1], sizes))

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        words = random_bits(seeds, (shape[0], 2))
        size = choices[integers(words[:, 1], len(choices))]
        whole = kept(words[:, 0], rate)[:, None]
        keep = whole | (jnp.arange(shape[-1])[None] < size[:, None])
        mask = (-1, *(1,) * (len(shape) - 2), shape[-1])
        return keep.astype(jnp.float32).reshape(mask)

    return multiply(noise, key, x, rate)


def first_channels(
    x: Positions, rate: Rate, *, sizes: KeptSizes = "all", first: int = 0
) -> Positions:
    """Return the first channels of x, and 0 for the others: nested dropout at test."""
    _check_first(first, x)
    if not first:
        return x
    channel = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    return jnp.where(channel < first, x, 0)


def nested_mean(
    x: Positions, rate: Rate, *, sizes: KeptSizes = "all", first: int = 0
) -> Positions:
    """Return E[y] of nested dropout: x_c (1 - rate P(k <= c)), c counted from 0."""
    choices = _nested_sizes(x.shape[-1], sizes)
    lost = (choices[None] <= np.arange(x.shape[-1])[:, None]).mean(1)
    rate = fixed_rate(rate, x)
    lost = jnp.asarray(lost, rate.dtype).reshape(*(1,) * (x.ndim - 1), -1)
    return (widened(x) * (1 - rate * lost)).astype(x.dtype)


def patch_mean(x: Positions, rate: Rate, *, prefix: int = 0) -> Positions:
    """Return E[y] of patch dropout: x times the fraction of tokens that it keeps."""
    count = int(np.prod(x.shape[1:-1])) - prefix
    fraction = 1 - jnp.minimum(fixed_rate(rate, x), 1 - 1 / count)
    token = jnp.arange(count + prefix).reshape(1, *x.shape[1:-1], 1)
    return (widened(x) * jnp.where(token < prefix, 1, fraction)).astype(x.dtype)


def word(key: AnyKey, x: PositionsLike, rate: Rate) -> PositionsLike:
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


def _nested_sizes(channels: int, sizes: KeptSizes) -> Int[np.ndarray, " k"]:
    """Return the numbers of channels that nested dropout may keep."""
    if sizes == "all":
        return np.arange(1, channels + 1)
    powers = 2 ** np.arange(channels.bit_length())
    return np.append(powers[powers < channels], channels)


def _check_first(first: int, x: Positions | Deferred) -> None:
    if not 0 <= first <= x.shape[-1]:
        raise ValueError(
            f"nested(first={first}): expected 0 to {x.shape[-1]}, the channels of x."
        )


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
