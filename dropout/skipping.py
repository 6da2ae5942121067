"""Branches that are not computed where a mask drops them for the whole batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer


@dataclass(frozen=True)
class Skipping:
    """A `drop` whose decision at some branches is known before they are computed.

    Attributes:
        drop: what it is called as.
        decide: the `drop` that draws the masks.
        sites: the branches that are to be skipped where `decide` drops them.
    """

    drop: Callable[..., Array]
    decide: Callable[..., Array]
    sites: frozenset[str]

    def __call__(
        self,
        site: str,
        x: Array,
        *others: Any,
        time: Integer[Array, ""] | int | None = None,
        reader: str = "",
    ) -> Array:
        """Act at a site, as `drop` does."""
        return self.drop(site, x, *others, time=time, reader=reader)


def is_kept(drop: Callable[..., Array], site: str) -> Bool[Array, ""] | None:
    """Return whether the branch at a site is kept; None where it is always computed.

    A network may leave out a branch that is not kept and give zeros to `drop` instead:
    they are multiplied by 0 in any case.
    """
    if not isinstance(drop, Skipping) or site not in drop.sites:
        return None
    return drop.decide(site, jnp.ones((1, 1)))[0, 0] != 0
