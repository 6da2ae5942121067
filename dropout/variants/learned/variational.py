"""Variational dropout: Gaussian noise whose variance is learned as a posterior."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float

from dropout import bits
from dropout.arrays import Examples, Kernel, Operation, widened
from dropout.bits import Seeds, row_seeds
from dropout.keys import AnyKey
from dropout.noise import remake, scale
from dropout.variants.entry import Parameters

Share = Literal["layer", "channel", "weight"]

KINGMA = (0.5, 1.16145124, -1.50204118, 0.58629921)


def variational(
    key: AnyKey,
    x: Examples,
    parameters: Parameters,
    kernel: Kernel | None = None,
    operation: Operation = jnp.matmul,
    *,
    share: Share = "layer",
) -> Array:
    """Multiplies by Gaussian noise whose variance alpha is learned, as a posterior.

    Formula: at an activation y = x (1 + sqrt(alpha) e), e ~ N(0, 1); at a kernel, by
        local reparameterisation, y = x W + sqrt(x^2 (alpha W^2)) e. There is one alpha
        per layer, channel (the last axis) or weight, rate = alpha / (1 + alpha). The
        regulariser is, over the number of training examples, the divergence from the
        log-uniform prior, minus (0.5 log a + 1.16145124 a - 1.50204118 a^2
        + 0.58629921 a^3) for each weight of the kernel.
    Mask: real noise, the shape of x, or of the product.
    At test: the identity, or the plain product.
    Domain: rate in (0, 0.5], where it starts and stays: the fit holds for alpha <= 1.
    Source: Kingma et al. 2015, "Variational Dropout and the Local Reparameterization
        Trick", NeurIPS, sections 3.1, 3.2 and appendix C.
    """
    log_alpha = jnp.minimum(parameters["log_alpha"], 0)
    if kernel is not None:
        alpha = _over_last(jnp.exp(log_alpha), kernel.ndim)
        squares = squared(kernel)
        variance = (alpha.astype(squares.dtype) * squares).astype(x.dtype)
        return reparameterised(key, x, kernel, variance, operation)
    if share == "weight":
        raise ValueError("variational(share='weight'): expected a kernel site.")
    spread = jnp.exp(log_alpha / 2)

    @remake
    def spread_out(seeds: Seeds, spread: Array, x: Examples) -> Examples:
        noise = _over_last(spread, x.ndim) * bits.normal(seeds, x.shape).astype(
            spread.dtype
        )
        return scale(x, 1 + noise)

    return spread_out(row_seeds(key, x.shape[0]), spread, x)


def variational_init(
    rate: Float[Array, ""], x: Array, *, share: Share = "layer"
) -> Parameters:
    """Return log(rate / (1 - rate)), log alpha: one per layer, channel or weight."""
    shapes = {"layer": (), "channel": x.shape[-1:], "weight": x.shape}
    return {"log_alpha": jnp.full(shapes[share], logit(rate))}


def variational_rate(parameters: Parameters, kernel: Kernel) -> Float[Array, ""]:
    """Return the mean of alpha / (1 + alpha)."""
    return jax.nn.sigmoid(jnp.minimum(parameters["log_alpha"], 0)).mean()


def variational_penalty(
    parameters: Parameters, kernel: Kernel, channels: int, *, share: Share = "layer"
) -> Float[Array, ""]:
    """Return the divergence summed over the weights that each alpha governs."""
    return (
        kernel.size * kingma_divergence(jnp.minimum(parameters["log_alpha"], 0)).mean()
    )


def kingma_divergence(log_alpha: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return KL(q || log-uniform) of a weight with alpha <= 1, up to a constant.

    Source: Kingma et al. 2015, equation 14: a cubic in alpha beside the logarithm.
    """
    a, (c0, *cubic) = jnp.exp(log_alpha), KINGMA
    return -(c0 * log_alpha + sum(c * a**k for k, c in enumerate(cubic, 1)))


def reparameterised(
    key: AnyKey, x: Examples, kernel: Kernel, variances: Kernel, operation: Operation
) -> Array:
    """Draw `operation(x, W)` with W ~ N(kernel, variances) anew for each output."""
    mean, variance = operation(x, kernel), operation(jnp.square(x), variances)

    @remake
    def drawn(seeds: Seeds, mean: Array, variance: Array) -> Array:
        spread = jnp.sqrt(widened(jnp.where(variance > 0, variance, 1)))
        noise = spread * bits.normal(seeds, mean.shape).astype(spread.dtype)
        noisy = mean + noise.astype(mean.dtype)
        return jnp.where(variance > 0, noisy, mean)

    return drawn(row_seeds(key, x.shape[0]), mean, variance)


def squared(kernel: Kernel) -> Kernel:
    """Return the squares of weights, in float32, or float64 where they are that."""
    return jnp.square(widened(kernel))


def _over_last(values: Array, rank: int) -> Array:
    """A number, a vector over the last axis, or all of them, in the given rank."""
    return values.reshape((1,) * (rank - values.ndim) + values.shape)
