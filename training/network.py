"""A network as a pure function of its parameters; modules are merged here alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, Site, record_sites
from dropout.grammar import Call
from models import create
from models.norms import RowWeights
from training.optimizer import DROPOUT, TELEMETRY

Tree = dict[str, Any]
BESIDE = (DROPOUT, TELEMETRY)
Forward = Callable[..., tuple[Float[Array, "n *positions classes"], Tree]]


class Network(NamedTuple):
    """A new network: its function, its sites, and its initial arrays by name.

    `forward(params, stats, images, drop, row_weights=None) -> logits, stats` keeps the
    statistics as they are without weights; with weights, rows of weight 0 do not count.
    """

    forward: Forward
    sites: tuple[Site, ...]
    params: Tree
    stats: Tree


def build(
    call: Call,
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    compute_dtype: str = "float32",
) -> Network:
    """Return a network for images (h, w, c) whose parameters are a function of `key`.

    Raises:
        ValueError: images that are too small for the network.
    """
    return functional(create(call, image, classes, key), image, compute_dtype)


def functional(
    model: Any, image: tuple[int, int, int], compute_dtype: str = "float32"
) -> Network:
    """Return a network's function apart from its parameters and running statistics.

    Activations are of the given dtype; parameters, statistics and logits are float32.
    """
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    def forward(
        params: Tree,
        stats: Tree,
        images: Float[Array, "n h w c"],
        drop: Drop,
        row_weights: RowWeights = None,
    ) -> tuple[Float[Array, "n *positions classes"], Tree]:
        params = {name: params[name] for name in params if name not in BESIDE}
        # Without copy, JAX sees the statistics of an outer trace being changed.
        merged = nnx.merge(graph, params, stats, copy=True)
        # Only networks that keep running statistics are told which rows move them.
        others = (row_weights,) if stats else ()
        logits = merged(images.astype(compute_dtype), drop, *others)
        stats = nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))
        return logits.astype(jnp.float32), stats

    first, then = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
    sites = record_sites(
        lambda drop: forward(first, then, jnp.zeros((1, *image), jnp.float32), drop)
    )
    return Network(forward, sites, first, then)
