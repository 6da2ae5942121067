"""Sparse variational dropout, which learns which weights are noise."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float

from dropout.arrays import Examples, Kernel, Operation
from dropout.keys import AnyKey
from dropout.variants.entry import Parameters
from dropout.variants.learned.variational import (
    reparameterised,
    squared,
)

SMALLEST_SQUARE = 1e-8  # added to a squared weight before its logarithm is taken
LARGEST_LOG_ALPHA = 8.0
PRUNED_LOG_ALPHA = 3.0
MOLCHANOV = (0.63576, 1.87320, 1.48695)


def sparse_variational(
    key: AnyKey,
    x: Examples,
    parameters: Parameters,
    kernel: Kernel,
    operation: Operation,
) -> Array:
    """Adds noise of a learned variance to each weight; at test prunes the noisiest.

    Formula: by local reparameterisation y = x W + sqrt(x^2 s2) e, e ~ N(0, 1), with
        s2 = alpha W^2, log alpha = min(8, log s2 - log(W^2 + 1e-8)), log s2 learned.
        The regulariser is, over the number of training examples, the divergence from
        the log-uniform prior, k1 - k1 sigmoid(k2 + k3 log alpha)
        + 0.5 log(1 + 1 / alpha) for each weight, k = 0.63576, 1.87320, 1.48695.
    Mask: real noise, the shape of the product.
    At test: the product without the weights whose log alpha is above 3.
    Domain: rate in (0, 1), where each weight's alpha / (1 + alpha) starts.
    Source: Molchanov et al. 2017, "Variational Dropout Sparsifies Deep Neural
        Networks", ICML, equations 11, 14 and 17; their code bounds log alpha by -8 too.
    """
    alpha = jnp.exp(_log_alpha(parameters, kernel))
    variance = (alpha * squared(kernel)).astype(x.dtype)
    return reparameterised(key, x, kernel, variance, operation)


def pruned_product(
    x: Examples, parameters: Parameters, kernel: Kernel, operation: Operation
) -> Array:
    """Return the product without pruned weights: its form at test."""
    return operation(x, sparse_prune(parameters, kernel))


def sparse_init(rate: Float[Array, ""], x: Kernel) -> Parameters:
    """Return the log variance of each weight that gives all the same alpha."""
    return {"log_variance": logit(rate) + jnp.log(squared(x) + SMALLEST_SQUARE)}


def sparse_rate(parameters: Parameters, kernel: Kernel) -> Float[Array, ""]:
    """Return the mean of alpha / (1 + alpha) over the weights."""
    return jax.nn.sigmoid(_log_alpha(parameters, kernel)).mean()


def sparse_penalty(
    parameters: Parameters, kernel: Kernel, channels: int
) -> Float[Array, ""]:
    """Return the divergence summed over the weights."""
    return molchanov_divergence(_log_alpha(parameters, kernel)).sum()


def sparse_prune(parameters: Parameters, kernel: Kernel) -> Kernel:
    """Return the kernel without the weights that are noise: log alpha above 3."""
    return jnp.where(_log_alpha(parameters, kernel) > PRUNED_LOG_ALPHA, 0, kernel)


def molchanov_divergence(log_alpha: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return KL(q || log-uniform) of a weight with any alpha; it tends to 0.

    Source: Molchanov et al. 2017, equation 14.
    """
    k1, k2, k3 = MOLCHANOV
    return (
        k1 - k1 * jax.nn.sigmoid(k2 + k3 * log_alpha) + jax.nn.softplus(-log_alpha) / 2
    )


def _log_alpha(parameters: Parameters, kernel: Kernel) -> Array:
    squares = jnp.log(squared(kernel) + SMALLEST_SQUARE)
    log_variance = parameters["log_variance"].astype(squares.dtype)
    return jnp.minimum(log_variance - squares, LARGEST_LOG_ALPHA)
