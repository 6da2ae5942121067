"""Variants whose rate is learned with the network, or follows what it computes."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit, xlogy
from jaxtyping import Array, Float

from dropout import bits
from dropout.bits import Seeds, kept, random_bits, row_seeds
from dropout.keys import AnyKey
from dropout.noise import Rate, Shape, fixed_rate, keep_scale, multiply, remake, scale
from dropout.variants.entry import Parameters

Batch = Float[Array, "n ..."]
Kernel = Float[Array, "*taps inputs outputs"]
Scalar = Float[Array, ""]
Operation = Callable[[Array, Array], Array]
Share = Literal["layer", "channel", "weight"]

SMALLEST_SQUARE = 1e-8  # added to a squared weight before its logarithm is taken
LARGEST_LOG_ALPHA = 8.0
PRUNED_LOG_ALPHA = 3.0
KINGMA = (0.5, 1.16145124, -1.50204118, 0.58629921)
MOLCHANOV = (0.63576, 1.87320, 1.48695)


def concrete(
    key: AnyKey,
    x: Batch,
    rate: Parameters,
    *,
    temperature: float = 0.1,
    length_scale: float = 1e-4,
) -> Batch:
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
    return _relaxed(key, x, rate["logit"], temperature, x.shape)


def spatial_concrete(
    key: AnyKey,
    x: Float[Array, "n *positions c"],
    rate: Parameters,
    *,
    temperature: float = 2 / 3,
    length_scale: float = 1e-4,
) -> Float[Array, "n *positions c"]:
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
    return _relaxed(key, x, rate["logit"], temperature, mask)


def variational(
    key: AnyKey,
    x: Batch,
    rate: Parameters,
    kernel: Kernel | None = None,
    operation: Operation = jnp.matmul,
    *,
    share: Share = "layer",
) -> Array:
    """Gaussian dropout whose variance alpha is learned, as a posterior over weights.

    Formula: at an activation y = x (1 + sqrt(alpha) e), e ~ N(0, 1); at a kernel, by
        local reparameterisation, y = x W + sqrt(x^2 (alpha W^2)) e. alpha is one a
        layer, channel (the last axis) or weight, rate = alpha / (1 + alpha). The
        regulariser is, over the number of training examples, the divergence from the
        log-uniform prior, minus (0.5 log a + 1.16145124 a - 1.50204118 a^2
        + 0.58629921 a^3) for each weight of the kernel.
    Mask: real noise, the shape of x, or of the product.
    At test: the identity, or the plain product.
    Domain: rate in (0, 0.5], where it starts and stays: the fit holds for alpha <= 1.
    Source: Kingma et al. 2015, "Variational Dropout and the Local Reparameterization
        Trick", NeurIPS, sections 3.1, 3.2 and appendix C.
    """
    log_alpha = jnp.minimum(rate["log_alpha"], 0)
    if kernel is not None:
        alpha = _over_last(jnp.exp(log_alpha), kernel.ndim)
        variance = (alpha * _square(kernel)).astype(x.dtype)
        return _reparameterised(key, x, kernel, variance, operation)
    if share == "weight":
        raise ValueError("variational(share='weight'): expected a kernel site.")
    spread = jnp.exp(log_alpha / 2)

    @remake
    def spread_out(seeds: Seeds, spread: Array, x: Batch) -> Batch:
        noise = _over_last(spread, x.ndim) * bits.normal(seeds, x.shape)
        return scale(x, 1 + noise)

    return spread_out(row_seeds(key, x.shape[0]), spread, x)


def sparse_variational(
    key: AnyKey,
    x: Batch,
    rate: Parameters,
    kernel: Kernel,
    operation: Operation,
) -> Array:
    """Learns a variance for each weight, and so which weights are noise.

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
    alpha = jnp.exp(_log_alpha(rate, kernel))
    variance = (alpha * _square(kernel)).astype(x.dtype)
    return _reparameterised(key, x, kernel, variance, operation)


def standout(key: AnyKey, x: Batch, rate: Rate, *, slope: float = 1.0) -> Batch:
    """Drops units the sooner, the lower their pre-activation is.

    Formula: y = m x, m ~ Bernoulli(sigmoid(slope x + logit(1 - rate))), without
        scaling; m is a constant to the gradient. After f with f(0) = 0, such as relu,
        f(m x) = m f(x).
    Mask: the shape of x. `rate` is that of a unit whose pre-activation is 0.
    At test: x sigmoid(slope x + logit(1 - rate)), the mean.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Ba & Frey 2013, "Adaptive dropout for training deep neural networks", NIPS,
        in the form in which the units' own weights, times `slope`, decide.
    """
    values = jax.lax.stop_gradient(x)

    def noise(seeds: Seeds, rate: Scalar, shape: Shape, values: Array) -> Array:
        drawn = random_bits(seeds, shape)
        return kept(drawn, 1 - _keep_probability(values, rate, slope)).astype(
            jnp.float32
        )

    return multiply(noise, key, x, rate, values)


def expected_standout(x: Batch, rate: Rate, *, slope: float = 1.0) -> Batch:
    """Standout's rule at test: each unit times the probability of keeping it."""
    values = jax.lax.stop_gradient(x)
    return scale(x, _keep_probability(values, fixed_rate(rate), slope))


def concrete_mean(
    x: Batch, rate: Parameters, *, temperature: float = 2 / 3, length_scale: float = 0
) -> Batch:
    """E[y] of spatial concrete dropout, by the midpoint rule over 4096 values of u."""
    u = (jnp.arange(4096, dtype=jnp.float32) + 0.5) / 4096
    keeps = jax.nn.sigmoid(-(rate["logit"] + logit(u)) / temperature)
    return scale(x, keeps.mean() * keep_scale(jax.nn.sigmoid(rate["logit"])))


def concrete_init(rate: Scalar, x: Array, **options: float) -> Parameters:
    """The logit of the rate: one number."""
    return {"logit": logit(rate)}


def concrete_rate(rate: Parameters, kernel: Kernel) -> Scalar:
    """The learned probability of dropping."""
    return jax.nn.sigmoid(rate["logit"])


def concrete_penalty(
    rate: Parameters,
    kernel: Kernel,
    channels: int,
    *,
    temperature: float = 0.1,
    length_scale: float = 1e-4,
) -> Scalar:
    """Concrete dropout's regulariser, with the inputs of the kernel for K."""
    return spatial_concrete_penalty(
        rate, kernel, kernel.shape[-2], length_scale=length_scale
    )


def spatial_concrete_penalty(
    rate: Parameters,
    kernel: Kernel,
    channels: int,
    *,
    temperature: float = 2 / 3,
    length_scale: float = 1e-4,
) -> Scalar:
    """Concrete dropout's regulariser, with the channels of the site for K.

    Formula: length_scale^2 sum(W^2) / (1 - p) + K (p log p + (1 - p) log(1 - p)).
    """
    p, q = jax.nn.sigmoid(rate["logit"]), jax.nn.sigmoid(-rate["logit"])
    weights = length_scale**2 * _square(kernel).sum() * keep_scale(p)
    return weights + channels * (xlogy(p, p) + xlogy(q, q))


def variational_init(rate: Scalar, x: Array, *, share: Share = "layer") -> Parameters:
    """The logarithm of alpha = rate / (1 - rate): one a layer, channel or weight."""
    shapes = {"layer": (), "channel": x.shape[-1:], "weight": x.shape}
    return {"log_alpha": jnp.full(shapes[share], logit(rate))}


def variational_rate(rate: Parameters, kernel: Kernel) -> Scalar:
    """The mean of alpha / (1 + alpha)."""
    return jax.nn.sigmoid(jnp.minimum(rate["log_alpha"], 0)).mean()


def variational_penalty(
    rate: Parameters, kernel: Kernel, channels: int, *, share: Share = "layer"
) -> Scalar:
    """The divergence of all weights, each alpha counting for those that it governs."""
    return kernel.size * kingma_divergence(jnp.minimum(rate["log_alpha"], 0)).mean()


def sparse_init(rate: Scalar, x: Kernel) -> Parameters:
    """The logarithm of each weight's variance, so that all have the same alpha."""
    return {"log_variance": logit(rate) + jnp.log(_square(x) + SMALLEST_SQUARE)}


def sparse_rate(rate: Parameters, kernel: Kernel) -> Scalar:
    """The mean of alpha / (1 + alpha) over the weights."""
    return jax.nn.sigmoid(_log_alpha(rate, kernel)).mean()


def sparse_penalty(rate: Parameters, kernel: Kernel, channels: int) -> Scalar:
    """The divergence summed over the weights."""
    return molchanov_divergence(_log_alpha(rate, kernel)).sum()


def sparse_prune(rate: Parameters, kernel: Kernel) -> Kernel:
    """The kernel without the weights that are noise: log alpha above 3."""
    return jnp.where(_log_alpha(rate, kernel) > PRUNED_LOG_ALPHA, 0, kernel)


def pruned_product(
    x: Batch, rate: Parameters, kernel: Kernel, operation: Operation
) -> Array:
    """Sparse variational dropout's rule at test."""
    return operation(x, sparse_prune(rate, kernel))


def plain_product(
    x: Batch,
    rate: Parameters,
    kernel: Kernel | None = None,
    operation: Operation = jnp.matmul,
    *,
    share: Share = "layer",
) -> Array:
    """Variational dropout's rule at test."""
    return x if kernel is None else operation(x, kernel)


def kingma_divergence(log_alpha: Float[Array, "..."]) -> Float[Array, "..."]:
    """KL(q || log-uniform) of a weight with alpha <= 1, up to a constant.

    Source: Kingma et al. 2015, equation 14: a cubic in alpha beside the logarithm.
    """
    a, (c0, *cubic) = jnp.exp(log_alpha), KINGMA
    return -(c0 * log_alpha + sum(c * a**k for k, c in enumerate(cubic, 1)))


def molchanov_divergence(log_alpha: Float[Array, "..."]) -> Float[Array, "..."]:
    """KL(q || log-uniform) of a weight with any alpha; 0 for alpha without bound.

    Source: Molchanov et al. 2017, equation 14.
    """
    k1, k2, k3 = MOLCHANOV
    return (
        k1 - k1 * jax.nn.sigmoid(k2 + k3 * log_alpha) + jax.nn.softplus(-log_alpha) / 2
    )


def _relaxed(
    key: AnyKey, x: Batch, logits: Scalar, temperature: float, mask: Shape
) -> Batch:
    @remake
    def softly_dropped(seeds: Seeds, logits: Scalar, x: Batch) -> Batch:
        # Odd multiples of 2^-24, so that neither logarithm is infinite.
        steps = (random_bits(seeds, mask) >> 8) | np.uint32(1)
        u = steps.astype(jnp.float32) * np.float32(2.0**-24)
        noise = jnp.log(u) - jnp.log1p(-u)
        keeps = jax.nn.sigmoid(-(logits + noise) / temperature)
        return scale(x, keeps * keep_scale(jax.nn.sigmoid(logits)))

    return softly_dropped(row_seeds(key, x.shape[0]), logits, x)


def _reparameterised(
    key: AnyKey, x: Batch, kernel: Kernel, variances: Kernel, operation: Operation
) -> Array:
    """A draw of `operation(x, W)`, W ~ N(kernel, variances) anew for each output."""
    mean, variance = operation(x, kernel), operation(jnp.square(x), variances)

    @remake
    def drawn(seeds: Seeds, mean: Array, variance: Array) -> Array:
        spread = jnp.sqrt(jnp.where(variance > 0, variance, 1).astype(jnp.float32))
        noisy = mean + (spread * bits.normal(seeds, mean.shape)).astype(mean.dtype)
        return jnp.where(variance > 0, noisy, mean)

    return drawn(row_seeds(key, x.shape[0]), mean, variance)


def _log_alpha(rate: Parameters, kernel: Kernel) -> Array:
    squares = jnp.log(_square(kernel) + SMALLEST_SQUARE)
    return jnp.minimum(rate["log_variance"] - squares, LARGEST_LOG_ALPHA)


def _over_last(values: Array, rank: int) -> Array:
    """A number, a vector over the last axis, or all of them, in the given rank."""
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def _square(kernel: Array) -> Array:
    return jnp.square(kernel.astype(jnp.float32))


def _keep_probability(values: Array, rate: Scalar, slope: float) -> Array:
    return jax.nn.sigmoid(slope * values.astype(jnp.float32) + logit(1 - rate))
