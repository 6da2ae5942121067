"""A network as a pure function of its parameters; modules are merged here alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, Plan, Row, Site, identity, record_sites, resolve
from dropout.attached import Attached
from dropout.grammar import Call
from dropout.nnx import attach
from dropout.sites import Bound
from models import create
from models.convolution import Images
from models.norms import RowWeights
from models.own import call_own, taken_by
from training.optimizer import DROPOUT, TELEMETRY

Tree = dict[str, Any]
BESIDE = (DROPOUT, TELEMETRY)
NO_DROPOUT = Plan()
Forward = Callable[..., tuple[Float[Array, "n *positions classes"], Tree]]


class Network(NamedTuple):
    """A new network: its function, its sites, and its initial arrays by name.

    `forward(params, stats, images, drop, row_weights=None) -> logits, stats` keeps the
    statistics as they are without weights; with weights, rows of weight 0 do not count.

    Attributes:
        rows: the resolved plan, with the network's own Dropout layers.
        takes: what its modules are called with beside images (`models.own`).
        origin: where its initial arrays come from, if they are not random.
    """

    forward: Forward
    sites: tuple[Site, ...]
    params: Tree
    stats: Tree
    rows: tuple[Row, ...] = ()
    takes: tuple[str, ...] = ("drop", "row_weights")
    origin: str = ""


def build(
    call: Call,
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    compute_dtype: str = "float32",
    plan: Plan = NO_DROPOUT,
) -> Network:
    """Return a network for images (h, w, c) whose parameters are a function of `key`.

    Raises:
        ValueError: images that are too small for the network, or a plan that does not
            fit it.
    """
    return functional(create(call, image, classes, key), image, compute_dtype, plan)


def functional(
    model: Any,
    image: tuple[int, int, int],
    compute_dtype: str = "float32",
    plan: Plan = NO_DROPOUT,
) -> Network:
    """Return a network's function apart from its parameters and running statistics.

    Images are of the given dtype, and so are the activations of our own networks;
    parameters, statistics and logits are float32.
    """
    # What is neither, such as the keys of Dropout layers, is never changed.
    graph, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    first, then = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
    takes = taken_by(model)
    shape = jax.ShapeDtypeStruct((1, *image), compute_dtype)
    attached = None if "drop" in takes else attach_plan(model, plan, shape)

    def forward(
        params: Tree,
        stats: Tree,
        images: Float[Array, "n h w c"],
        drop: Drop,
        row_weights: RowWeights = None,
    ) -> tuple[Float[Array, "n *positions classes"], Tree]:
        params = {name: params[name] for name in params if name not in BESIDE}
        parts = numbered(params, first), numbered(stats, then), rest
        # Without copy, JAX sees the statistics of an outer trace being changed.
        merged = nnx.merge(graph, *parts, copy=True)
        x = images.astype(compute_dtype)
        if attached is None:
            logits = call_own(merged, x, drop, row_weights)
        else:
            logits = call_attached(attached, merged, x, drop, row_weights)
        stats = named(nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))
        return logits.astype(jnp.float32), stats

    params, stats = named(first), named(then)
    if attached is not None:
        return Network(forward, attached.sites, params, stats, attached.rows, takes)
    sites = record_sites(
        lambda drop: forward(params, stats, jnp.zeros(shape.shape, jnp.float32), drop)
    )
    rows = resolve(plan, tuple(site.name for site in sites))
    return Network(forward, sites, params, stats, rows, takes)


def attach_plan(
    model: nnx.Module, plan: Plan, images: jax.ShapeDtypeStruct
) -> Attached:
    """Put a plan into a network that takes no `drop`.

    Its class may name the modules whose outputs are residual branches: `branches`, a
    tuple of patterns.
    """
    branches = getattr(type(model), "branches", ())

    def call(model: nnx.Module, images: Images, row_weights: RowWeights) -> Array:
        return call_own(model, images, identity, row_weights)

    return attach(model, plan, images, None, call=call, branches=branches)


def call_attached(
    attached: Attached,
    model: nnx.Module,
    images: Images,
    drop: Drop,
    row_weights: RowWeights,
) -> Array:
    """Call a network that takes no `drop` with what `bind` made; otherwise plainly."""
    if not isinstance(drop, Bound):
        return call_own(model, images, drop, row_weights)
    return attached.with_rows(drop.rows)(
        model, images, row_weights, moment=drop.moment, mode=drop.mode,
        rows=drop.rows, bits=drop.bits, params=drop.params,
    )  # fmt: skip


def named(tree: dict) -> Tree:
    """Return a tree with texts as names: those of the items of a list are numbers."""
    return {
        str(name): named(item) if isinstance(item, dict) else item
        for name, item in tree.items()
    }


def numbered(tree: Tree, like: dict) -> dict:
    """Return a tree with the names that it has in `like`, which `named` made texts."""
    return {
        name: numbered(tree[str(name)], item)
        if isinstance(item, dict)
        else tree[str(name)]
        for name, item in like.items()
    }
