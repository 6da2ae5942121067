"""L0 gates: a hard concrete gate for each channel, whose chance to be 0 is learned."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit
from jaxtyping import Array, Float

from dropout.arrays import Kernel, Positions
from dropout.bits import Seeds, random_bits, row_seeds
from dropout.grammar import Interval
from dropout.keys import AnyKey
from dropout.noise import remake, scale
from dropout.variants.entry import Parameters

Weight = Annotated[float, Interval("[0, 1e18]")]

TEMPERATURE = 2 / 3
LOWEST, HIGHEST = -0.1, 1.1  # the gate before it is clipped to [0, 1]
# The chance of being 0 is sigmoid(CLOSING - log alpha).
CLOSING = TEMPERATURE * float(np.log(-LOWEST / HIGHEST))


def l0_gate(
    key: AnyKey, x: Positions, parameters: Parameters, *, weight: Weight = 1.0
) -> Positions:
    """Multiplies each channel by a gate that is often exactly 0 or 1, and is learned.

    Formula: y = z x, z = clip(1.2 s - 0.1, 0, 1), s = sigmoid((logit u + log alpha) /
        beta), u ~ U(0, 1), beta = 2/3, with one learned log alpha per channel. P(z = 0)
        = sigmoid(beta log(0.1 / 1.1) - log alpha), which is `rate` at the start. The
        regulariser is, over the number of training examples, weight sum(P(z > 0)), the
        expected number of channels that are left. Nothing is scaled.
    Mask: (n, 1, ..., 1, c).
    At test: clip(1.2 sigmoid(log alpha) - 0.1, 0, 1) x: a channel whose log alpha is
        below -2.4 is 0, and the weights that read it are pruned.
    Domain: rate in (0, 1), where it starts; a traced 0 or 1 stays.
    Source: Louizos et al. 2018, "Learning Sparse Neural Networks through L0
        Regularization", ICLR, whose constants these are. The authors' code starts with
        sigmoid(log alpha) = 1 - rate.
    """
    mask = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])

    @remake
    def gated(seeds: Seeds, log_alpha: Float[Array, " c"], x: Positions) -> Positions:
        # Odd multiples of 2^-24, so that neither logarithm is infinite.
        steps = (random_bits(seeds, mask) >> 8) | np.uint32(1)
        u = steps.astype(jnp.float32) * np.float32(2.0**-24)
        noise = (jnp.log(u) - jnp.log1p(-u)).astype(log_alpha.dtype)
        raised = log_alpha.reshape(*(1,) * (x.ndim - 1), -1)
        return scale(x, _clipped((noise + raised) / TEMPERATURE))

    return gated(row_seeds(key, x.shape[0]), parameters["log_alpha"], x)


def l0_at_test(
    x: Positions, parameters: Parameters, *, weight: float = 1.0
) -> Positions:
    """Return x times the gate without noise: the form of L0 gates at test."""
    gate = _clipped(parameters["log_alpha"])
    return scale(x, gate.reshape(*(1,) * (x.ndim - 1), -1))


def l0_init(rate: Float[Array, ""], x: Array, *, weight: float = 1.0) -> Parameters:
    """Return the log alpha of each channel with P(z = 0) = rate."""
    return {"log_alpha": jnp.full(x.shape[-1:], CLOSING - logit(rate))}


def l0_rate(parameters: Parameters, kernel: Kernel) -> Float[Array, ""]:
    """Return the mean chance that a gate is 0."""
    return jax.nn.sigmoid(CLOSING - parameters["log_alpha"]).mean()


def l0_penalty(
    parameters: Parameters, kernel: Kernel, channels: int, *, weight: float = 1.0
) -> Float[Array, ""]:
    """Return the expected number of channels whose gate is not 0, times the weight."""
    return weight * jax.nn.sigmoid(parameters["log_alpha"] - CLOSING).sum()


def l0_prune(parameters: Parameters, kernel: Kernel) -> Kernel:
    """Return the kernel without the weights that read a channel whose gate is 0.

    A kernel that reads a flattened map has several rows for each channel.
    """
    gate = _clipped(parameters["log_alpha"])
    rows = jnp.tile(gate, kernel.shape[-2] // gate.size)
    return jnp.where(rows.reshape(*(1,) * (kernel.ndim - 2), -1, 1) == 0, 0, kernel)


def l0_mean(x: Positions, parameters: Parameters, *, weight: float = 1.0) -> Positions:
    """Return E[y] of L0 gates, by a midpoint sum over 4096 u."""
    log_alpha = parameters["log_alpha"]
    noise = logit((jnp.arange(4096, dtype=log_alpha.dtype) + 0.5) / 4096)
    gates = _clipped((noise[:, None] + log_alpha[None]) / TEMPERATURE).mean(0)
    return scale(x, gates.reshape(*(1,) * (x.ndim - 1), -1))


def _clipped(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """The stretched and clipped gate of a concrete variable's logits."""
    stretched = (HIGHEST - LOWEST) * jax.nn.sigmoid(logits) + LOWEST
    return jnp.clip(stretched, 0, 1)
