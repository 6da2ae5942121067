"""Variants that drop or mix whole paths: residual branches and layers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.arrays import Examples, Rate, check_alike, widened
from dropout.bits import Seeds, as_uniform, kept, random_bits
from dropout.keys import AnyKey
from dropout.noise import (
    Noise,
    fixed_rate,
    keep_or_drop,
    keep_unscaled,
    multiply,
    multiply_twice,
    shared,
)
from dropout.variants.structured import kept_fraction


def drop_path(key: AnyKey, x: Examples, rate: Rate, *, skip: bool = False) -> Examples:
    """Drops the whole branch of an example and scales the others by 1 / (1 - rate).

    Formula: y = b x / q, b ~ Bernoulli(q), q = 1 - rate; E[y] = x. With rates
        huang(0.0..p) over depth, stochastic depth as published; 0.0..p is that
        of timm.
    Mask: (n, 1, ..., 1); one for the batch with unit="batch", as first published. With
        skip=True, too, `resnet`, `wrn` and `vit` do not compute a branch that is
        dropped: outputs and gradients are the same, and its running statistics stay.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros: the block is its shortcut.
    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", ECCV, in the
        inverted form.
    """
    return multiply(shared(keep_or_drop, range(1, x.ndim)), key, x, rate)


def layerdrop(key: AnyKey, x: Examples, rate: Rate, *, skip: bool = False) -> Examples:
    """Skips a layer for the whole batch, without scaling.

    Formula: y = b x, b ~ Bernoulli(1 - rate), one for the batch; on the branch of a
        residual block the block becomes the identity. E[y] = (1 - rate) x.
    Mask: one decision (one per example with unit="example"). skip=True is as in
        drop_path.
    At test: the identity; all layers.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Fan et al. 2020, "Reducing Transformer Depth on Demand with Structured
        Dropout", ICLR.
    """
    return multiply(shared(keep_unscaled, range(1, x.ndim)), key, x, rate)


def layerdrop_mean(x: Examples, rate: Rate, *, skip: bool = False) -> Examples:
    """Return E[y] of LayerDrop: (1 - rate) x."""
    return kept_fraction(x, rate)


def shakedrop(key: AnyKey, x: Examples, rate: Rate) -> Examples:
    """Shakes an example's branch with probability `rate`, and its gradient separately.

    Formula: forward (b + a - b a) x, backward (b + c - b c) g, b ~ Bernoulli(1 - rate),
        a ~ U(-1, 1), c ~ U(0, 1); E[y] = (1 - rate) x, variance of the coefficient
        (1 - rate) + rate / 3 - (1 - rate)^2.
    Mask: (n, 1, ..., 1); the authors' code draws b once per batch (unit="batch" draws
        a, b and c so).
    At test: (1 - rate) x.
    Domain: rate in [0, 1]; 1 shakes always.
    Source: Yamada et al. 2019, "ShakeDrop Regularization for Deep Residual Learning",
        IEEE Access.
    """
    return multiply_twice(_shaken(1, -1.0), _shaken(2, 0.0), key, x, rate)


def expected_branch(x: Examples, rate: Rate) -> Examples:
    """Return what ShakeDrop gives at test: (1 - rate) x."""
    return (widened(x) * (1 - fixed_rate(rate, x))).astype(x.dtype)


def shake_shake(key: AnyKey, first: Examples, rate: Rate, second: Examples) -> Examples:
    """Mixes two branches in a random proportion, and their gradients in another.

    Formula: y = a first + (1 - a) second, backward b g and (1 - b) g, where a and b are
        1/2 + rate (u - 1/2), u ~ U(0, 1) each; E[y] = (first + second) / 2,
        Var[y] = rate^2 (first - second)^2 / 12.
    Mask: (n, 1, ..., 1) ("image" level).
    At test: (first + second) / 2.
    Domain: rate in [0, 1]; 1 is the published form, 0 the plain mean.
    Source: Gastaldi 2017, arXiv:1705.07485.
    """
    check_alike("shake_shake", first, second)
    one = multiply_twice(_share(0, 0.5), _share(1, 0.5), key, first, rate)
    other = multiply_twice(_share(0, -0.5), _share(1, -0.5), key, second, rate)
    return one + other


def _shaken(word: int, lowest: float) -> Noise:
    """1 with probability 1 - rate, else U(lowest, 1) from the given word of a row."""

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        words = random_bits(seeds, (shape[0], 3))
        shaken = lowest + (1 - lowest) * as_uniform(words[:, word]).astype(rate.dtype)
        factor = jnp.where(kept(words[:, 0], rate), 1, shaken)
        return factor.reshape(-1, *(1,) * (len(shape) - 1))

    return noise


def _share(word: int, sign: float) -> Noise:
    """1/2 +- rate (u - 1/2), the share of one of two branches; `sign` is +-1/2."""

    def noise(seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]) -> Array:
        u = as_uniform(random_bits(seeds, (shape[0], 2))[:, word]).astype(rate.dtype)
        return (0.5 + sign * rate * (2 * u - 1)).reshape(-1, *(1,) * (len(shape) - 1))

    return noise
