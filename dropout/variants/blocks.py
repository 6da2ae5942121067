"""Variants that drop contiguous blocks of feature maps."""

from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dropout.arrays import Positions, PositionsLike, Rate, widened
from dropout.bits import Seeds, keep_mask, named_seeds, normal, row_seeds
from dropout.grammar import Interval
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, keep_scale, multiply, remake
from dropout.variants.block_seeds import Seeding, covering_seeds, seed_rate

Channels = Literal["each", "shared"]
Alpha = Annotated[float, Interval("[0, 1e18]")]


def dropblock(
    key: AnyKey,
    x: PositionsLike,
    rate: Rate,
    *,
    block_size: int = 7,
    channels: Channels = "each",
    mode: Seeding = "extended",
) -> PositionsLike:
    """Drops square blocks of a feature map so that `rate` of it is dropped on average.

    Formula: each seed, Bernoulli(gamma), drops a block of k x k; y = m x / E[m]; so
        E[y] = x and Var[y] = x^2 P / (1 - P) at every position, P its probability of
        being dropped.
        mode "extended": seeds on the map extended by k - 1 along each axis, so that
        every position is covered by k^2 of them: gamma = 1 - (1 - rate)^(1 / k^2) and
        P = rate everywhere. Blocks may reach over the border.
        mode "paper": seeds only where the whole block fits. A position that n of them
        cover has P = 1 - (1 - gamma)^n, more in the middle than at the border; a search
        finds the gamma whose mean P is `rate` (the published gamma drops less).
        gamma is rounded up to a multiple of 2^-30, so that rates below k^2 2^-26 are
        exceeded by up to 1/16 and more.
        Block size 1 is bernoulli, bit for bit; along an axis that is not longer than a
        block the block spans it, and where it spans the map this is spatial, bit for
        bit (both in mode "extended").
    Mask: (n, h, w, c) or (n, length, c); with channels="shared" the same for all
        channels. The published scale is a count over the batch, which would couple
        examples.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Ghiasi et al. 2018, "DropBlock: A regularization method for convolutional
        networks", NeurIPS.
    """
    _check(block_size)
    noise = partial(_block_noise, size=block_size, channels=channels, mode=mode)
    return multiply(noise, key, x, rate)


def disout(
    key: AnyKey, x: Positions, rate: Rate, *, block_size: int = 6, alpha: Alpha = 1.0
) -> Positions:
    """Replaces blocks of a feature map by noise with the map's standard deviation.

    Formula: y = m x / q + (1 - m) d, m as in dropblock, q = 1 - rate,
        d = alpha std(x) e, e ~ N(0, 1), std over the example; E[y] = x.
    Mask: (n, h, w, c) or (n, length, c); one for each channel.
    At test: the identity.
    Domain: rate in [0, 1]; 1 leaves only the noise. alpha=0 is dropblock.
    Source: Tang et al. 2020, "Beyond Dropout: Feature Map Distortion to Regularize Deep
        Neural Networks", AAAI. The authors' code differs in five points: it multiplies
        alpha by a mean of the next layer's weights with random signs, or by 0.01
        without such a layer; it takes the spread over the batch; it places seeds where
        the block fits; it scales by the share kept in the batch; and it scales the
        noise, too.
    """
    _check(block_size)

    @remake
    def replace(seeds: Seeds, others: Seeds, rate: Array, x: Positions) -> Positions:
        factor = _block_noise(seeds, rate, x.shape, block_size, "each", "extended")
        values = jax.lax.stop_gradient(widened(x))
        spread = values.std(tuple(range(1, x.ndim)), keepdims=True)
        distortion = alpha * spread * normal(others, x.shape).astype(values.dtype)
        kept = jnp.where(rate == 0, x, (widened(x) * factor).astype(x.dtype))
        return jnp.where(factor == 0, distortion.astype(x.dtype), kept)

    others = named_seeds(key, "distortion", x.shape[0])
    return replace(row_seeds(key, x.shape[0]), others, fixed_rate(rate, x), x)


def integer_power(base: Float[Array, "..."], powers: Int[np.ndarray, "..."]) -> Array:
    """Return `base ** powers` for whole powers >= 0, multiplied in a fixed order."""
    result = jnp.ones(np.broadcast_shapes(base.shape, powers.shape), base.dtype)
    for bit in range(int(powers.max()).bit_length()):
        result = jnp.where((powers >> bit) & 1 == 1, result * base, result)
        base = base * base
    return result


def _block_noise(
    seeds: Seeds,
    rate: Float[Array, ""],
    shape: tuple[int, ...],
    size: int,
    channels: Channels,
    mode: Seeding,
) -> Array:
    """0 in blocks, else the scale that keeps the mean."""
    axes = range(1, len(shape) - 1)
    cover = np.ones((1,) * len(shape), np.int32)
    for axis in axes:
        along = [-1 if other == axis else 1 for other in range(len(shape))]
        cover = cover * covering_seeds(shape[axis], size, mode).reshape(along)
    gamma = seed_rate(rate, cover)
    border = (size - 1) * (1 if mode == "extended" else -1)
    grid = [1 if shape[axis] <= size else shape[axis] + border for axis in axes]
    depth = shape[-1] if channels == "each" else 1
    hit = ~keep_mask(seeds, gamma, (shape[0], *grid, depth))
    for axis in axes:
        if shape[axis] > size:
            hit = _grow(hit, axis, size, size - 1 if mode == "paper" else 0)
    dropped = (
        rate
        if mode == "extended"
        else 1 - integer_power(1 - gamma.astype(rate.dtype), cover)
    )
    return jnp.where(hit, 0, keep_scale(dropped))


def _grow(hit: Bool[Array, "..."], axis: int, size: int, border: int) -> Array:
    """True where any of `size` neighbours along an axis is, with a border of False."""
    window = tuple(size if other == axis else 1 for other in range(hit.ndim))
    padding = tuple(
        (border, border) if other == axis else (0, 0) for other in range(hit.ndim)
    )
    return jax.lax.reduce_window(
        hit, False, jax.lax.bitwise_or, window, (1,) * hit.ndim, padding
    )


def _check(block_size: int) -> None:
    if block_size < 1:
        raise ValueError(f"block_size={block_size}: expected at least 1.")
