"""Variants for recurrent networks."""

import jax.numpy as jnp
from jaxtyping import Array

from dropout.arrays import (
    Examples,
    ExamplesLike,
    PositionsLike,
    Rate,
    check_alike,
    widened,
)
from dropout.bits import Seeds, keep_mask, row_seeds
from dropout.keys import AnyKey
from dropout.noise import (
    drop_elements,
    fixed_rate,
    keep_or_drop,
    multiply,
    remade,
    remake,
    shared,
)


def locked(key: AnyKey, x: PositionsLike, rate: Rate) -> PositionsLike:
    """Drops features of a sequence, the same ones at all times: variational dropout.

    Formula: y_t = m x_t / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x.
    Mask: (n, 1, d) for all times of an example. At a site inside a scan over time,
        (n, d), drawn once per sequence.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in
        Recurrent Neural Networks", NeurIPS.
    """
    return multiply(shared(keep_or_drop, range(1, x.ndim - 1)), key, x, rate)


def recurrent(key: AnyKey, x: ExamplesLike, rate: Rate) -> ExamplesLike:
    """Drops features of a cell's candidate, so that its memory is never erased.

    Formula: c_t = f_t c_(t-1) + i_t (m g_t / q), m ~ Bernoulli(q), q = 1 - rate; on the
        candidate g_t: y = m x / q, E[y] = x.
    Mask: the shape of x, drawn at every step.
    At test: the identity.
    Domain: rate in [0, 1]; 1 gives zeros: the memory only fades.
    Source: Semeniuta et al. 2016, "Recurrent Dropout without Memory Loss", COLING.
    """
    return remade(drop_elements, keep_or_drop, key, x, rate)


def zoneout(key: AnyKey, new: Examples, rate: Rate, old: Examples) -> Examples:
    """Keeps each unit's old state with probability `rate`.

    Formula: h_t = d h_(t-1) + (1 - d) new_t, d ~ Bernoulli(rate); never scaled.
    Mask: the shape of the state, drawn at every step.
    At test: rate h_(t-1) + (1 - rate) new_t, which is E[h_t].
    Domain: rate in [0, 1]; 1 freezes the state.
    Source: Krueger et al. 2017, "Zoneout: Regularizing RNNs by Randomly Preserving
        Hidden Activations", ICLR.
    """
    check_alike("zoneout", new, old)

    @remake
    def new_or_old(seeds: Seeds, rate: Array, new: Examples, old: Examples) -> Examples:
        return jnp.where(keep_mask(seeds, rate, new.shape), new, old)

    return new_or_old(row_seeds(key, new.shape[0]), fixed_rate(rate, new), new, old)


def expected_state(new: Examples, rate: Rate, old: Examples) -> Examples:
    """Return what zoneout gives at test: rate old + (1 - rate) new."""
    rate = fixed_rate(rate, new)
    mixed = rate * widened(old) + (1 - rate) * widened(new)
    return mixed.astype(new.dtype)
