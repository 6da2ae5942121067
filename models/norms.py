"""Normalisation of feature maps: over a batch, a group of channels, a map, or none."""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

NormKind = Literal["batch", "group", "layer", "none"]
Norm = nnx.BatchNorm | nnx.GroupNorm | nnx.LayerNorm | None
RowWeights = Float[Array, " n"] | None

MOMENTUM = 0.9  # The share of the running statistics that each batch keeps.

# Flax asks for keys, though scales start at 1 and biases at 0. They are made when they
# are used, because a key at import would start the devices before flags choose them.
_no_keys = partial(nnx.Rngs, 0)


def batch_norm(channels: int) -> nnx.BatchNorm:
    """Normalise each channel over the batch (Ioffe & Szegedy 2015).

    Running statistics keep 0.9 of their value in each batch; variances are biased.
    """
    # Flax's fast variance, E[x^2] - E[x]^2, can cancel, and takes twice the time on
    # the CPU (`scripts/bench.py --parts=steps --models='resnet(depth=20)'`).
    return nnx.BatchNorm(
        channels,
        momentum=MOMENTUM,
        epsilon=1e-5,
        use_fast_variance=False,
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
    counted = (row_weights != 0).reshape(-1, *(1,) * (x.ndim - 1))
    return norm(values, use_running_average=False, mask=counted).astype(x.dtype)


def _grouped(channels: int, groups: int) -> nnx.GroupNorm:
    return nnx.GroupNorm(
        channels, groups, epsilon=1e-5, use_fast_variance=False, rngs=_no_keys()
    )
