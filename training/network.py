"""A network as a pure function of its parameters; modules are merged here alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, Plan, Row, Site, record_sites, resolve
from dropout.attached import Attached
from dropout.grammar import Call
from models import create
from models.convolution import Algorithm
from models.layers import use_algorithm
from models.norms import RowWeights
from models.own import call_own, is_own, taken_by
from models.remat import check_remat, rematerialise
from training.array_names import Tree, named, numbered
from training.attached_network import attach_plan, call_attached
from training.multiplications import counting
from training.optimizer import DROPOUT, TELEMETRY

BESIDE = (DROPOUT, TELEMETRY)
NO_DROPOUT = Plan()
Forward = Callable[..., tuple[Float[Array, "n *positions classes"], Tree]]
Initial = Callable[[Key[Array, ""]], tuple[Tree, Tree]]
ImageShape = tuple[int, int, int]
# Simplified, the factors of an initialiser would be multiplied with one another first,
# and the last bit of a kernel would differ from the one that `build` gives.
AS_WRITTEN = {"xla_disable_hlo_passes": "algsimp"}


class Network(NamedTuple):
    """A new network: its function, its sites, and its initial arrays by name.

    `forward(params, stats, images, drop, row_weights=None) -> logits, stats` keeps the
    statistics as they are without weights; with weights, rows of weight 0 do not count.

    Attributes:
        params: the arrays, or their shapes if the network is only `planned`.
        stats: likewise.
        outputs: the shape of the logits of an example.
        multiplications: those of each convolution for an example.
        forward_by: gives `forward` with all convolutions computed by an algorithm, and
            with the activations of modules that match patterns computed again in the
            backward pass; a pattern that matches none is a ValueError.
        initial: gives new arrays, `params` and `stats`, from the key of a run.
        rows: the resolved plan, with the network's own Dropout layers.
        takes: what its modules are called with beside images (`models.own`).
        origin: where its initial arrays come from, if they are not random.
    """

    forward: Forward
    sites: tuple[Site, ...]
    params: Tree
    stats: Tree
    outputs: tuple[int, ...]
    multiplications: tuple[int, ...]
    forward_by: Callable[..., Forward]
    initial: Initial
    rows: tuple[Row, ...]
    takes: tuple[str, ...]
    origin: str = ""


class Parts(NamedTuple):
    """A module in parts; what is neither parameter nor statistic never changes."""

    graph: nnx.GraphDef
    params: dict
    stats: dict
    rest: nnx.State


def build(
    call: Call,
    image: ImageShape,
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
    network = functional(create(call, image, classes, key), image, compute_dtype, plan)
    return network._replace(initial=initialiser(call, image, classes))


def planned(
    call: Call,
    image: ImageShape,
    classes: int,
    key: Key[Array, ""],
    compute_dtype: str = "float32",
    plan: Plan = NO_DROPOUT,
) -> Network:
    """Return the network that `build` returns without its arrays.

    Nothing is computed, except by a network of the user's own: its constructor need
    not be one that JAX can trace, and what its modules keep besides has to be there.

    Raises:
        ValueError: as `build`.
    """

    def parts() -> Parts:
        return _parts(create(call, image, classes, key))

    found = parts() if is_own(call) else jax.eval_shape(parts)
    params, stats = jax.eval_shape(lambda: (found.params, found.stats))
    found = found._replace(params=params, stats=stats)
    initial = initialiser(call, image, classes)
    return _network(found, image, compute_dtype, plan, initial)


def initialiser(call: Call, image: ImageShape, classes: int) -> Initial:
    """Return a function of a key: the arrays of the network that `build` returns.

    On the CPU it is a single program, which the cache of compiled programs keeps,
    except for a network of the user's own.
    """

    def arrays(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        parts = _parts(create(call, image, classes, key))
        return named(parts.params), named(parts.stats)

    if is_own(call) or jax.default_backend() != "cpu":
        return arrays
    return jax.jit(arrays, compiler_options=AS_WRITTEN)


def functional(
    model: Any,
    image: ImageShape,
    compute_dtype: str = "float32",
    plan: Plan = NO_DROPOUT,
) -> Network:
    """Return a network's function apart from its parameters and running statistics.

    Images are of the given dtype, and so are the activations of our own networks;
    parameters, statistics and logits are float32.
    """
    parts = _parts(model)
    arrays = named(parts.params), named(parts.stats)
    return _network(parts, image, compute_dtype, plan, lambda key: arrays)


def _parts(model: Any) -> Parts:
    # The rest is, say, the keys of Dropout layers.
    graph, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return Parts(graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats), rest)


def _network(
    parts: Parts, image: ImageShape, compute_dtype: str, plan: Plan, initial: Initial
) -> Network:
    model = nnx.merge(*parts)
    takes, shape = taken_by(model), jax.ShapeDtypeStruct((1, *image), compute_dtype)
    attached = None if "drop" in takes else attach_plan(model, plan, shape)

    def forward_by(algorithm: Algorithm, remat: str = "") -> Forward:
        check_remat(model, remat)
        return _forward(parts, attached, algorithm, compute_dtype, remat)

    params, stats = named(parts.params), named(parts.stats)
    outputs, multiplications = [], []

    def pass_once(drop: Drop) -> None:
        zeros, still, images = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, stats, shape)
        )
        counted = counting(drop, multiplications)
        outputs.append(forward_by("direct")(zeros, still, images, counted)[0].shape[1:])

    sites = record_sites(pass_once)
    if attached is None:
        rows = resolve(plan, tuple(site.name for site in sites))
    else:
        sites, rows = attached.sites, attached.rows
    return Network(
        forward_by("windows"), sites, params, stats, outputs[0],
        tuple(multiplications), forward_by, initial, rows, takes,
    )  # fmt: skip


def _forward(
    parts: Parts,
    attached: Attached | None,
    algorithm: Algorithm,
    compute_dtype: str,
    remat: str,
) -> Forward:
    def forward(
        params: Tree,
        stats: Tree,
        images: Float[Array, "n h w c"],
        drop: Drop,
        row_weights: RowWeights = None,
    ) -> tuple[Float[Array, "n *positions classes"], Tree]:
        params = {name: params[name] for name in params if name not in BESIDE}
        arrays = numbered(params, parts.params), numbered(stats, parts.stats)
        # Without copy, JAX sees the statistics of an outer trace being changed.
        merged = nnx.merge(parts.graph, *arrays, parts.rest, copy=True)
        use_algorithm(merged, algorithm)
        rematerialise(merged, remat)
        x = images.astype(compute_dtype)
        if attached is None:
            logits = call_own(merged, x, drop, row_weights)
        else:
            logits = call_attached(attached, merged, x, drop, row_weights)
        stats = named(nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))
        return logits.astype(jnp.float32), stats

    return forward
