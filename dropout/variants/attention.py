"""Variants for attention: on logits and weights of shape (n, heads, queries, keys)."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.arrays import Rate, widened
from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey
from dropout.noise import (
    fixed_rate,
    keep_or_drop,
    multiply,
    remake,
    shared,
)

Attention = Float[Array, "n heads queries keys"]


def attention(
    key: AnyKey,
    x: Attention,
    rate: Rate,
    *,
    heads: Literal["each", "shared"] = "each",
) -> Attention:
    """Drops attention weights after the softmax and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x. A row sums to 1 only
        on average.
    Mask: (n, heads, queries, keys); with heads="shared" (n, 1, queries, keys). Never
        shared between examples.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Vaswani et al. 2017, in their implementation.
    """
    axes = () if heads == "each" else (1,)
    return multiply(shared(keep_or_drop, axes), key, x, rate)


def dropkey(key: AnyKey, x: Attention, rate: Rate) -> Attention:
    """Hides keys from queries before the softmax, which gives their weight to others.

    Formula: y = the lowest finite number where m = 0, else x, m ~ Bernoulli(1 - rate).
        Rows of the softmax sum to 1; one that hides all keys is uniform.
    Mask: (n, heads, queries, keys).
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives uniform attention.
    Source: Li et al. 2023, "DropKey for Vision Transformer", CVPR.
    """

    @remake
    def hide(seeds: Seeds, rate: Array, x: Attention) -> Attention:
        lowest = jnp.finfo(x.dtype).min
        return jnp.where(keep_mask(seeds, rate, x.shape), x, lowest)

    return hide(row_seeds(key, x.shape[0]), fixed_rate(rate, x), x)


def dropkey_mean(x: Attention, rate: Rate) -> Attention:
    """Return E[y] of DropKey on logits; what matters in use is their softmax."""
    rate = fixed_rate(rate, x)
    lowest = jnp.asarray(jnp.finfo(x.dtype).min, rate.dtype)
    return (rate * lowest + (1 - rate) * widened(x)).astype(x.dtype)


def drophead(key: AnyKey, x: Attention, rate: Rate) -> Attention:
    """Drops whole heads of an example and scales the others by heads / heads kept.

    Formula: y = b_h x H / sum_h b_h, b_h ~ Bernoulli(1 - rate); zeros if none is kept;
        E[y] = (1 - rate^H) x.
    Mask: (n, heads, 1, 1).
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Zhou et al. 2020, "Scheduled DropHead: A Regularization Method for
        Transformer Models", Findings of EMNLP.
    """
    return multiply(_head_noise, key, x, rate)


def drophead_mean(x: Attention, rate: Rate) -> Attention:
    """Return E[y] of DropHead: (1 - rate^heads) x."""
    kept = 1 - fixed_rate(rate, x) ** x.shape[1]
    return (kept * widened(x)).astype(x.dtype)


def _head_noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
    keep = keep_mask(seeds, rate, (*shape[:2], 1, 1))
    count = keep.sum(1, keepdims=True, dtype=jnp.float32)
    return jnp.where(keep, shape[1] / jnp.maximum(count, 1), 0)
