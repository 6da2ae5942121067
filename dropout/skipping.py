"""Branches that are not computed where a mask drops them for the whole batch."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from dropout.rows import Row
from dropout.sites import AT_TEST, Bound, Drop, bind


def is_kept(drop: Drop, site: str) -> Bool[Array, ""] | None:
    """Return whether the branch at a site is kept; None where it is always computed.

    A network may leave out a branch that is not kept and give zeros to `drop` instead:
    they are multiplied by 0 in any case.
    """
    if not isinstance(drop, Bound) or drop.mode in AT_TEST:
        return None
    if not any(row.site == site and _skips(row) for row in drop.rows):
        return None
    decide = bind(drop.rows, drop.moment, drop.mode, drop.bits, drop.params)
    return decide(site, jnp.ones((1, 1)))[0, 0] != 0


def _skips(row: Row) -> bool:
    return ("skip", True) in row.variant.options
