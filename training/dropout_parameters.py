"""Learned dropout in training: its parameters stand among those of the network.

They are `params["dropout"][site]`, so that the optimiser, the checkpoints and the
digests see them like any others; weight decay and max-norm act on kernels alone.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout import Row, Timeline, identity, kind_of
from dropout.parameters import (
    Place,
    initial_parameters,
    kept_weights,
    learned_places,
    learned_rates,
    penalty,
)
from dropout.schedules import Step
from dropout.variants import VARIANTS
from dropout.variants.entry import Parameters
from training.network import Network, Tree
from training.optimizer import DROPOUT


def find_places(
    network: Network, rows: tuple[Row, ...], images: jax.ShapeDtypeStruct
) -> tuple[Place, ...]:
    """Where a plan's learned rules act in a network that is called with such images.

    Raises:
        ValueError: no kernel reads a site.
    """
    if not any(VARIANTS[row.variant.name].learned for row in rows):
        return ()
    return learned_places(rows, site_shapes(network, images))


def site_shapes(
    network: Network, images: jax.ShapeDtypeStruct
) -> dict[str, tuple[int, ...]]:
    """The shape at each site in order: of the kernel, or else of what is given first.

    Images are those that the network is called with.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def record(site: str, x: Array, *others: Any, time: Any = None) -> Array:
        shapes[site] = (others[0] if kind_of(site) == "kernel" else x).shape
        return identity(site, x, *others)

    def call(params: Tree, images: Array) -> Array:
        return network.forward(params, network.stats, images, record)[0]

    jax.eval_shape(call, network.params, images)
    return shapes


def with_learned(params: Tree, places: tuple[Place, ...]) -> Tree:
    """A network's parameters with those of its dropout, if it has any."""
    if not places:
        return params
    return {**params, DROPOUT: initial_parameters(places, _kernels(params, places))}


def learned_of(params: Tree) -> Mapping[str, Parameters]:
    """The parameters of dropout among a network's, by site."""
    return params[DROPOUT] if DROPOUT in params else {}


def total_penalty(
    params: Tree, places: tuple[Place, ...], step: Step, timeline: Timeline
) -> Float[Array, ""]:
    """The regularisers of all places, as part of a loss summed over training."""
    kernels = _kernels(params, places)
    return penalty(places, learned_of(params), kernels, step, timeline)


def rates_of(params: Tree, places: tuple[Place, ...]) -> dict[str, Float[Array, ""]]:
    """The learned rate at each place, by site."""
    return learned_rates(places, learned_of(params), _kernels(params, places))


def compression(params: Tree, places: tuple[Place, ...]) -> dict[str, float]:
    """Where a rule prunes, the weights there over those that evaluation keeps."""
    params = jax.tree.map(jnp.asarray, params)
    counts = kept_weights(places, learned_of(params), _kernels(params, places))
    return {"compression": counts[0] / max(counts[1], 1)} if counts[0] else {}


def _kernels(params: Tree, places: tuple[Place, ...]) -> dict[str, Any]:
    """The kernels that the places need; the name of a kernel's site is its path."""
    return {
        place.kernel: reduce(
            lambda tree, name: tree[name], place.kernel.split("/"), params
        )
        for place in places
    }
