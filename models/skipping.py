"""Branches of residual blocks that are computed only where a plan keeps them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from dropout import Drop
from dropout.skipping import is_kept


def computed_if_kept(
    block: nnx.Module, site: str, drop: Drop, branch: Callable[[Any], Array]
) -> Array:
    """Return `branch(block)`, or zeros where the mask at a site drops all of it.

    Without `skip=True` in the plan's rule for the site it is `branch(block)` itself,
    and the program is the same. Running statistics of a skipped branch stay as they
    are.

    Args:
        block: the module that computes the branch.
        site: the site of the branch, which is not called here.
        drop: the plan's `drop`.
        branch: computes the branch with the block, or with a copy of it.
    """
    kept = is_kept(drop, site)
    if kept is None:
        return branch(block)
    graph, stats, others = nnx.split(block, nnx.BatchStat, ...)

    def compute(stats: Any) -> tuple[Array, Any]:
        # Variables can be changed only where they were made: within the condition.
        own = nnx.merge(graph, stats, others, copy=True)
        return branch(own), nnx.state(own, nnx.BatchStat)

    def skip(stats: Any) -> tuple[Array, Any]:
        return jnp.zeros(shape.shape, shape.dtype), stats

    shape, _ = jax.eval_shape(compute, stats)
    computed, stats = jax.lax.cond(kept, compute, skip, stats)
    nnx.update(block, stats)
    return computed
