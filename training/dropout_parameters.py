"""Learned dropout in training: its parameters are kept with those of the network.

They are `params["dropout"][site]`, so that the optimiser, the checkpoints and the
digests see them like any others; weight decay and max-norm act on kernels alone.
Kernels before the first step, which some variants need, are `["start"]` there: their
gradient is 0, so that no step changes them.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout import VARIANTS, Row, Timeline
from dropout.parameters import (
    LearnedRow,
    initial_parameters,
    kept_weights,
    learned_rates,
    penalty,
)
from dropout.schedules import Step
from dropout.variants.entry import Parameters
from training.network import Tree
from training.optimizer import DROPOUT


def with_learned(params: Tree, learned: tuple[LearnedRow, ...]) -> Tree:
    """Return a network's parameters with those of its dropout, if it has any."""
    if not learned:
        return params
    return {**params, DROPOUT: initial_parameters(learned, _kernels(params, learned))}


def with_starts(params: Tree, rows: tuple[Row, ...]) -> Tree:
    """Return a network's parameters with the initial kernels that the plan needs.

    It is called before the first step, when the parameters are the initial ones.
    """
    needing = [row.site for row in rows if VARIANTS[row.variant.name].needs_start]
    if not needing:
        return params
    starts = {site: {"start": jnp.copy(_at(params, site))} for site in needing}
    return {**params, DROPOUT: {**learned_of(params), **starts}}


def learned_of(params: Tree) -> Mapping[str, Parameters]:
    """Return the parameters of dropout among a network's, by site."""
    return params[DROPOUT] if DROPOUT in params else {}


def total_penalty(
    params: Tree, learned: tuple[LearnedRow, ...], step: Step, timeline: Timeline
) -> Float[Array, ""]:
    """Return the sum of all regularisers, for a loss summed over training examples."""
    kernels = _kernels(params, learned)
    return penalty(learned, learned_of(params), kernels, step, timeline)


def rates_of(
    params: Tree, learned: tuple[LearnedRow, ...]
) -> dict[str, Float[Array, ""]]:
    """Return the learned rate at each learned row, by site."""
    return learned_rates(learned, learned_of(params), _kernels(params, learned))


def compression(params: Tree, learned: tuple[LearnedRow, ...]) -> dict[str, float]:
    """Return, if a variant prunes, the number of weights over the number at test."""
    params = jax.tree.map(jnp.asarray, params)
    counts = kept_weights(learned, learned_of(params), _kernels(params, learned))
    return {"compression": counts[0] / max(counts[1], 1)} if counts[0] else {}


def _kernels(params: Tree, learned: tuple[LearnedRow, ...]) -> dict[str, Any]:
    """Return the kernels of learned rows; the name of a kernel's site is its path."""
    return {item.kernel: _at(params, item.kernel) for item in learned}


def _at(params: Tree, site: str) -> Any:
    return reduce(lambda tree, name: tree[name], site.split("/"), params)
