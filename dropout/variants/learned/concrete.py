"""Concrete dropout: a soft mask whose rate is learned for each site."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit, xlogy
from jaxtyping import Array, Float

from dropout.arrays import Examples, Kernel, Positions, widened
from dropout.bits import Seeds, random_bits, row_seeds
from dropout.grammar import Interval
from dropout.keys import AnyKey
from dropout.noise import keep_scale, remake, scale
from dropout.variants.entry import Parameters

Temperature = Annotated[float, Interval("(0, 1e18]")]
LengthScale = Annotated[float, Interval("[0, 1e18]")]


def concrete(
    key: AnyKey,
    x: Examples,
    parameters: Parameters,
    *,
    temperature: Temperature = 0.1,
    length_scale: LengthScale = 1e-4,
) -> Examples:
    """Drops each element softly, at a rate that is learned for the site.

    Formula: y = x (1 - z) / (1 - p), z = sigmoid((logit p + logit u) / temperature),
        u ~ U(0, 1), p = sigmoid(logit p) learned. The regulariser is, over the number
        of training examples, length_scale^2 sum(W^2) / (1 - p) - K H(p), with W the
        kernel that reads the site, K its inputs and H the entropy of a coin in nats.
        With temperature 0.1, E[y] is x to within 0.3 % for p <= 0.6.
    Mask: real noise in [0, 1], the shape of x; as temperature falls, Bernoulli's.
    At test: the identity.
    Domain: rate in (0, 1), where it starts; a traced 0 or 1 stays.
    Source: Gal et al. 2017, "Concrete Dropout", NeurIPS.
    """
    return _relaxed(key, x, parameters["logit"], temperature, x.shape)


def spatial_concrete(
    key: AnyKey,
    x: Positions,
    parameters: Parameters,
    *,
    temperature: Temperature = 2 / 3,
    length_scale: LengthScale = 1e-4,
) -> Positions:
    """Drops whole channels softly, at a rate that is learned for the site.

    Formula: as concrete, with one z for each example and channel, and K the channels.
        E[y] is `concrete_mean`: with temperature 2/3, 0.95 x at p = 0.1 to 0.3.
    Mask: (n, 1, ..., 1, c).
    At test: the identity.
    Domain: rate in (0, 1), where it starts; a traced 0 or 1 stays.
    Source: Gal et al. 2017, with the mask of Tompson et al. 2015, as in the authors'
        code.
    """
    mask = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return _relaxed(key, x, parameters["logit"], temperature, mask)


def concrete_mean(
    x: Examples,
    parameters: Parameters,
    *,
    temperature: float = 2 / 3,
    length_scale: float = 0,
) -> Examples:
    """Return E[y] of spatial concrete dropout, by a midpoint sum over 4096 u."""
    u = (jnp.arange(4096, dtype=parameters["logit"].dtype) + 0.5) / 4096
    keeps = jax.nn.sigmoid(-(parameters["logit"] + logit(u)) / temperature)
    return scale(x, keeps.mean() * keep_scale(jax.nn.sigmoid(parameters["logit"])))


def concrete_init(rate: Float[Array, ""], x: Array, **options: float) -> Parameters:
    """Return the logit of the rate: one number."""
    return {"logit": logit(rate)}


def concrete_rate(parameters: Parameters, kernel: Kernel) -> Float[Array, ""]:
    """Return the learned probability of dropping."""
    return jax.nn.sigmoid(parameters["logit"])


def concrete_penalty(
    parameters: Parameters,
    kernel: Kernel,
    channels: int,
    *,
    temperature: float = 0.1,
    length_scale: float = 1e-4,
) -> Float[Array, ""]:
    """Return the regulariser of concrete dropout; K is the inputs of the kernel."""
    return spatial_concrete_penalty(
        parameters, kernel, kernel.shape[-2], length_scale=length_scale
    )


def spatial_concrete_penalty(
    parameters: Parameters,
    kernel: Kernel,
    channels: int,
    *,
    temperature: float = 2 / 3,
    length_scale: float = 1e-4,
) -> Float[Array, ""]:
    """Return the regulariser of concrete dropout; K is the channels of the site.

    Formula: length_scale^2 sum(W^2) / (1 - p) + K (p log p + (1 - p) log(1 - p)).
    """
    p, q = jax.nn.sigmoid(parameters["logit"]), jax.nn.sigmoid(-parameters["logit"])
    weights = length_scale**2 * jnp.square(widened(kernel)).sum() * keep_scale(p)
    return weights + channels * (xlogy(p, p) + xlogy(q, q))


def _relaxed(
    key: AnyKey,
    x: Examples,
    logits: Float[Array, ""],
    temperature: float,
    mask: tuple[int, ...],
) -> Examples:
    @remake
    def softly_dropped(seeds: Seeds, logits: Float[Array, ""], x: Examples) -> Examples:
        # Odd multiples of 2^-24, so that neither logarithm is infinite.
        steps = (random_bits(seeds, mask) >> 8) | np.uint32(1)
        u = steps.astype(jnp.float32) * np.float32(2.0**-24)
        noise = (jnp.log(u) - jnp.log1p(-u)).astype(logits.dtype)
        keeps = jax.nn.sigmoid(-(logits + noise) / temperature)
        return scale(x, keeps * keep_scale(jax.nn.sigmoid(logits)))

    return softly_dropped(row_seeds(key, x.shape[0]), logits, x)
