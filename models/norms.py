"""Normalisation of feature maps: over a batch, a group of channels, a map, or none."""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

NormKind = Literal["batch", "group", "layer", "none"]
Norm = nnx.BatchNorm | nnx.GroupNorm | nnx.LayerNorm | None
RowWeights = Float[Array, " n"] | None

MOMENTUM = 0.9  # The share of the running statistics that is left after a batch.

# Flax asks for keys, though scales start at 1 and biases at 0. The keys are made when a
# norm is, because a key at import would start the devices before flags choose them.
_no_keys = partial(nnx.Rngs, 0)


def batch_norm(channels: int) -> nnx.BatchNorm:
    """Normalise each channel over the batch (Ioffe & Szegedy 2015).

    Running statistics keep 0.9 of their value in each batch; variances are biased
    (divided by n). The running mean is subtracted before the variance is computed.
    """
    return nnx.BatchNorm(
        channels,
        momentum=MOMENTUM,
        epsilon=1e-5,
        rngs=_no_keys(),
    )


def group_norm(channels: int) -> nnx.GroupNorm:
    """Normalise each example over groups of channels (Wu & He 2018).

    There are 32 groups, or fewer where a group would have less than four channels.
    """
    return _grouped(channels, gcd(32, max(1, channels // 4)))


def layer_norm(channels: int) -> nnx.GroupNorm:
    """Normalise each example over its whole map, with a scale and bias per channel."""
    return _grouped(channels, 1)


def last_axis_norm(features: int) -> nnx.LayerNorm:
    """Normalise each position over its features (Ba et al. 2016), for transformers."""
    return nnx.LayerNorm(
        features, epsilon=1e-6, use_fast_variance=False, rngs=_no_keys()
    )


NORMS: dict[NormKind, Callable[[int], Norm]] = {
    "batch": batch_norm,
    "group": group_norm,
    "layer": layer_norm,
    "none": lambda channels: None,
}


def normalise(
    norm: Norm, x: Float[Array, "n *dims c"], row_weights: RowWeights
) -> Float[Array, "n *dims c"]:
    """Return the normalised map in the dtype of `x`, computed in float32.

    Batch norm uses its running statistics where `row_weights` is None. Otherwise it
    uses the statistics of the rows whose weight is not 0, and moves the running ones
    towards them.
    """
    if norm is None:
        return x
    values = x.astype(jnp.float32)
    if isinstance(norm, (nnx.GroupNorm, nnx.LayerNorm)):
        return norm(values).astype(x.dtype)
    if row_weights is None:
        return norm(values, use_running_average=True).astype(x.dtype)
    return _over_batch(norm, values, row_weights).astype(x.dtype)


def _over_batch(
    norm: nnx.BatchNorm, x: Float[Array, "n *dims c"], row_weights: Float[Array, " n"]
) -> Float[Array, "n *dims c"]:
    """Normalise with the statistics of the batch, and move the running ones."""
    center = jax.lax.stop_gradient(norm.mean[...])
    rows = x.reshape(len(x), -1, x.shape[-1]) - center[None, None]
    shift, variance = _statistics(rows, row_weights != 0)
    share = 1 - norm.momentum
    moved_by = share * shift, share * (variance - norm.var[...])
    norm.mean[...] += jax.lax.stop_gradient(moved_by[0])
    norm.var[...] += jax.lax.stop_gradient(moved_by[1])
    scale, bias = (cast(nnx.Param, each)[...] for each in (norm.scale, norm.bias))
    scale = jax.lax.rsqrt(variance + norm.epsilon) * scale
    bias = bias - shift * scale
    # One array with a copy for each row, so that the backward pass, too, has only one
    # sum over the batch: devices that share a batch wait for one another at each sum.
    factors = jnp.broadcast_to(jnp.stack([scale, bias]), (len(x), 2, x.shape[-1]))
    return (rows * factors[:, :1] + factors[:, 1:]).reshape(x.shape)


def _statistics(
    rows: Float[Array, "n p c"], counted: Bool[Array, " n"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return the mean and the biased variance of the rows that count, in one sum.

    By the law of total variance, the variance is the mean of the variances within the
    rows plus the variance of the rows' means m, E[m^2] - E[m]^2. In float32 it is off
    by at most about 5e-7 (variance + mean^2), so the mean should not be large compared
    with the standard deviation.
    """
    means = rows.mean(1)
    within = jnp.square(rows - means[:, None]).mean(1)
    both = jnp.stack([means, jnp.square(means) + within], axis=1)
    sums = jnp.where(counted[:, None, None], both, 0.0).sum(0)
    mean, square = sums / counted.sum(dtype=jnp.float32)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _grouped(channels: int, groups: int) -> nnx.GroupNorm:
    return nnx.GroupNorm(
        channels, groups, epsilon=1e-5, use_fast_variance=False, rngs=_no_keys()
    )
