"""Variants that decide for each element on its own."""

from jaxtyping import Array, Float

from dropout.keys import AnyKey
from dropout.noise import Rate, keep_or_drop, multiply


def bernoulli(
    key: AnyKey, x: Float[Array, "n ..."], rate: Rate
) -> Float[Array, "n ..."]:
    """Drops each element with probability `rate` and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x,
    Var[y] = x^2 rate / q. At test the identity. On a kernel it is DropConnect.
    Domain: rate in [0, 1]; 0 is the bitwise identity, 1 gives zeros.
    Source: Srivastava et al. 2014, JMLR 15, in the inverted form.
    """
    return multiply(keep_or_drop, key, x, rate)
