"""Branches of residual blocks that are computed only where a plan keeps them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from dropout import Drop, kind_of
from dropout.skipping import is_kept

PRODUCT = "product of a skipped branch"
keep_products = partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.save_only_these_names(PRODUCT),
    prevent_cse=False,
)


def computed_if_kept(
    block: nnx.Module, site: str, drop: Drop, branch: Callable[[Any, Drop], Array]
) -> Array:
    """Return `branch(block, drop)`, or zeros where the mask at a site drops all of it.

    Without `skip=True` in the plan's rule for the site it is `branch(block, drop)`
    itself, and the program is the same. Running statistics of a skipped branch stay as
    they are.

    Args:
        block: the module that computes the branch.
        site: the site of the branch, which is not called here.
        drop: the plan's `drop`.
        branch: computes the branch with the block, or with a copy of it.
    """
    kept = is_kept(drop, site)
    if kept is None:
        return branch(block, drop)
    graph, stats, others = nnx.split(block, nnx.BatchStat, ...)

    # A condition fills what the backward pass needs of a skipped branch with zeros: of
    # the inputs of all products that took a good part of the time that skipping saves.
    @keep_products
    def compute(stats: Any) -> tuple[Array, Any]:
        # Variables can be changed only where they were made: within the condition.
        own = nnx.merge(graph, stats, others, copy=True)
        return branch(own, naming_products(drop)), nnx.state(own, nnx.BatchStat)

    def skip(stats: Any) -> tuple[Array, Any]:
        return jnp.zeros(shape.shape, shape.dtype), stats

    shape, _ = jax.eval_shape(compute, stats)
    computed, stats = jax.lax.cond(kept, compute, skip, stats)
    nnx.update(block, stats)
    return computed


def naming_products(drop: Drop) -> Drop:
    """Return the same `drop`, with a name for what each kernel gives."""

    def named(site: str, x: Array, *others: Any, **options: Any) -> Array:
        y = drop(site, x, *others, **options)
        return checkpoint_name(y, PRODUCT) if kind_of(site) == "kernel" else y

    return named
