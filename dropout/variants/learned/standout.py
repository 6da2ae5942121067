"""Standout: units are dropped by their own pre-activations."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float

from dropout.arrays import Examples, Rate, widened
from dropout.bits import Seeds, kept, random_bits
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, multiply, scale


def standout(key: AnyKey, x: Examples, rate: Rate, *, slope: float = 1.0) -> Examples:
    """Drops a unit the more likely, the lower its pre-activation is.

    Formula: y = m x, m ~ Bernoulli(sigmoid(slope x + logit(1 - rate))), without
        scaling; m is a constant to the gradient. After f with f(0) = 0, such as relu,
        f(m x) = m f(x).
    Mask: the shape of x. A unit whose pre-activation is 0 is dropped at `rate`.
    At test: x sigmoid(slope x + logit(1 - rate)), the mean.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Ba & Frey 2013, "Adaptive dropout for training deep neural networks", NIPS,
        in the form in which the units' own weights, times `slope`, decide.
    """
    values = jax.lax.stop_gradient(x)

    def noise(
        seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...], values: Array
    ) -> Array:
        drawn = random_bits(seeds, shape)
        return kept(drawn, 1 - _keep_probability(values, rate, slope)).astype(
            jnp.float32
        )

    return multiply(noise, key, x, rate, values)


def expected_standout(x: Examples, rate: Rate, *, slope: float = 1.0) -> Examples:
    """Multiply each unit by the probability of keeping it: standout at test."""
    values = jax.lax.stop_gradient(x)
    return scale(x, _keep_probability(values, fixed_rate(rate, x), slope))


def _keep_probability(values: Array, rate: Float[Array, ""], slope: float) -> Array:
    return jax.nn.sigmoid(slope * widened(values) + logit(1 - rate))
