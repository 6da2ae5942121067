"""Variants whose masks depend on the values that they act on."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.arrays import Examples, Maps, Rate, widened
from dropout.bits import Seeds, keep_mask, named_seeds, normal, row_seeds
from dropout.grammar import Interval
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, keep_scale, multiply, remake, scale

SMALLEST_SHARE = 2.0**-24  # of active elements, so that nothing is divided by 0

Otherwise = Literal["importance", "plain"]
Threshold = Annotated[float, Interval("[0, 1]")]
Cap = Annotated[float, Interval("(0, 1]")]
Power = Annotated[float, Interval("[0, 1]")]


def adl(
    key: AnyKey,
    x: Maps,
    rate: Rate,
    *,
    threshold: Threshold = 0.8,
    otherwise: Otherwise = "importance",
) -> Maps:
    """Drops the most active positions of a map, or else highlights the active ones.

    Formula: A is the mean of x over the channels; with probability `rate` y = 0 where
        A >= threshold max A, else x, without scaling. Otherwise y = x sigmoid(A), or x
        with otherwise="plain"; at rate 0 always x, as the plain network.
    Mask: (n, h, w, 1); one choice between the two for the whole batch, as published, or
        with unit='example' one for each example. max A is of each example.
    At test: the identity.
    Domain: rate in [0, 1]; 1 always drops. Published at 0.75.
    Source: Choe & Shim 2019, "Attention-based Dropout Layer for Weakly Supervised
        Object Localization", CVPR, as in the authors' code.
    """

    @remake
    def choose(seeds: Seeds, rate: Array, x: Maps) -> Maps:
        plain = keep_mask(seeds, rate, (x.shape[0], 1, 1, 1))
        highlighted = jnp.where(rate == 0, x, _highlighted(x, otherwise))
        return jnp.where(plain, highlighted, _without_peaks(x, threshold))

    return choose(row_seeds(key, x.shape[0]), fixed_rate(rate, x), x)


def jumpout(
    key: AnyKey, x: Examples, rate: Rate, *, cap: Cap = 0.6, power: Power = 0.75
) -> Examples:
    """Drops elements with a random probability, divided by the share that is active.

    Formula: p = |e| rate, e ~ N(0, 1), one for each example; p' = min(p / a, cap) with
        a the share of the elements above 0; y = m x / (1 - p')^power, m ~
        Bernoulli(1 - p'). So p of all elements are active and dropped, whatever the
        share of the active is, as long as the cap does not bind. E[y] is x (1 -
        p')^(1 - power), averaged over p'.
    Mask: the shape of x.
    At test: the identity.
    Domain: rate in [0, 1], the spread of p.
    Source: Wang, Zhou & Bilmes 2019, "Jumpout: Improved Dropout for Deep Neural
        Networks with ReLUs", ICML. The distribution, the normalisation and a scale
        between none and 1 / (1 - p) are as in its abstract; cap and power were not
        checked against its text. There the share is of the batch.
    """
    row = (x.shape[0], *(1,) * (x.ndim - 1))
    share = (x > 0).mean(tuple(range(1, x.ndim)), keepdims=True, dtype=jnp.float32)
    spread = jnp.abs(normal(named_seeds(key, "chance", x.shape[0]), row))

    def noise(
        seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...], spread: Array
    ) -> Array:
        chance = jnp.minimum(rate.astype(jnp.float32) * spread, cap)
        kept = keep_mask(seeds, chance, shape)
        return jnp.where(kept, keep_scale(chance) ** power, 0)

    return multiply(noise, key, x, rate, spread / jnp.maximum(share, SMALLEST_SHARE))


def adl_mean(
    x: Maps,
    rate: Rate,
    *,
    threshold: Threshold = 0.8,
    otherwise: Otherwise = "importance",
) -> Maps:
    """Return E[y] of the attention-based dropout layer, for a rate above 0."""
    rate = fixed_rate(rate, x)
    dropped = widened(_without_peaks(x, threshold))
    highlighted = widened(_highlighted(x, otherwise))
    return (rate * dropped + (1 - rate) * highlighted).astype(x.dtype)


def _without_peaks(x: Maps, threshold: float) -> Maps:
    """The map with 0 at the positions whose mean reaches the threshold."""
    mean = jax.lax.stop_gradient(widened(x)).mean(-1, keepdims=True)
    highest = mean.max((1, 2, 3), keepdims=True)
    return jnp.where(mean < threshold * highest, x, 0)


def _highlighted(x: Maps, otherwise: Otherwise) -> Maps:
    """The map times the importance of each position, through which gradients flow."""
    if otherwise == "plain":
        return x
    return scale(x, jax.nn.sigmoid(widened(x).mean(-1, keepdims=True)))
