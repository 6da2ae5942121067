"""Variants that replace a non-linearity, which the site passes to them."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dropout.arrays import Examples, Rate, widened
from dropout.bits import Seeds, keep_mask, row_seeds, uniform
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, multiply, remake, scale

Nonlinearity = Callable[[Array], Array]
LOW, HIGH = 1 / 8, 1 / 3  # the slopes that the paper found best


def drop_activation(
    key: AnyKey, x: Examples, rate: Rate, nonlinearity: Nonlinearity
) -> Examples:
    """Leaves out the non-linearity of each element with probability `rate`.

    Formula: y = m f(x) + (1 - m) x, m ~ Bernoulli(q), q = 1 - rate, f the
        non-linearity of the network; E[y] = q f(x) + rate x.
    Mask: the shape of x: one bit per element.
    At test: q f(x) + rate x, the mean: of ReLU a leaky ReLU with slope `rate`.
    Domain: rate in [0, 1]; 1 makes the layer linear. The paper's is 0.05.
    Source: Liang et al. 2018, "Drop-Activation: Implicit Parameter Reduction and
        Harmonious Regularization", arXiv:1811.05850.
    """

    @remake
    def chosen(
        seeds: Seeds, rate: Float[Array, ""], active: Examples, x: Examples
    ) -> Examples:
        return jnp.where(keep_mask(seeds, rate, x.shape), active, x)

    return chosen(row_seeds(key, x.shape[0]), fixed_rate(rate, x), nonlinearity(x), x)


def expected_activation(
    x: Examples, rate: Rate, nonlinearity: Nonlinearity
) -> Examples:
    """Return (1 - rate) f(x) + rate x, the form of drop-activation at test."""
    rate, active = fixed_rate(rate, x), nonlinearity(x)
    return (widened(active) * (1 - rate) + widened(x) * rate).astype(x.dtype)


def rrelu(
    key: AnyKey,
    x: Examples,
    rate: Rate,
    nonlinearity: Nonlinearity,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> Examples:
    """Adds a random slope to the non-linearity where its input is negative.

    Formula: y = f(x) + rate a min(x, 0), a ~ U(low, high), f the non-linearity of the
        network. With ReLU as f and rate 1 it is the published function: x where
        x >= 0, else a x. E[y] = f(x) + rate (low + high) / 2 min(x, 0).
    Mask: the shape of x: one slope per element.
    At test: f(x) + rate (low + high) / 2 min(x, 0), the mean, as in PyTorch's RReLU.
    Domain: rate in [0, 1]; 1 is the published form, 0 the plain non-linearity.
    Source: Xu et al. 2015, "Empirical Evaluation of Rectified Activations in
        Convolutional Network", arXiv:1505.00853; these bounds are those of PyTorch.
    """
    _check_slopes(low, high)

    def leak(
        seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...]
    ) -> Float[Array, "n ..."]:
        slope = low + (high - low) * uniform(seeds, shape).astype(rate.dtype)
        return rate * slope

    return _leaking(x, nonlinearity(x), multiply(leak, key, x, rate))


def expected_rrelu(
    x: Examples,
    rate: Rate,
    nonlinearity: Nonlinearity,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> Examples:
    """Return f(x) + rate (low + high) / 2 min(x, 0), the form of RReLU at test."""
    _check_slopes(low, high)
    slope = fixed_rate(rate, x) * np.float32((low + high) / 2)
    return _leaking(x, nonlinearity(x), scale(x, slope))


def _leaking(x: Examples, active: Examples, leak: Examples) -> Examples:
    return jnp.where(x < 0, active + leak, active)


def _check_slopes(low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"rrelu(low={low}, high={high}): expected low <= high.")
