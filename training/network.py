"""A network as a pure function of its parameters; modules are merged here alone."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from dropout import Drop, Site, kind_of, record_sites
from dropout.grammar import Call
from models import create
from models.convolution import Algorithm
from models.layers import use_algorithm
from models.norms import RowWeights
from training.optimizer import DROPOUT, TELEMETRY

Tree = dict[str, Any]
BESIDE = (DROPOUT, TELEMETRY)
Forward = Callable[..., tuple[Float[Array, "n *positions classes"], Tree]]
Image = tuple[int, int, int]
# Simplified, the factors of an initialiser would be multiplied with one another first,
# and the last bit of a kernel would differ from the one that `build` gives.
AS_WRITTEN = {"xla_disable_hlo_passes": "algsimp"}
Time = Int[Array, ""] | int | None


class Network(NamedTuple):
    """A new network: its function, its sites, and its initial arrays by name.

    `forward(params, stats, images, drop, row_weights=None) -> logits, stats` keeps the
    statistics as they are without weights; with weights, rows of weight 0 do not count.

    Attributes:
        params: the arrays, or of a network that is only `planned` their shapes.
        stats: likewise.
        outputs: the shape of the logits of an example.
        products: the multiplications of each convolution for an example.
        forward_by: gives `forward` with all convolutions computed by an algorithm.
    """

    forward: Forward
    sites: tuple[Site, ...]
    params: Tree
    stats: Tree
    outputs: tuple[int, ...]
    products: tuple[int, ...]
    forward_by: Callable[[Algorithm], Forward]


def build(
    call: Call,
    image: Image,
    classes: int,
    key: Key[Array, ""],
    compute_dtype: str = "float32",
) -> Network:
    """Return a network for images (h, w, c) whose parameters are a function of `key`.

    Raises:
        ValueError: images that are too small for the network.
    """
    return functional(create(call, image, classes, key), image, compute_dtype)


def planned(call: Call, image: Image, classes: int, compute_dtype: str) -> Network:
    """Return a network without its arrays: nothing is computed.

    Raises:
        ValueError: images that are too small for the network.
    """
    parts = jax.eval_shape(
        lambda: _parts(create(call, image, classes, jax.random.key(0)))
    )
    return _network(*parts, image, compute_dtype)


def initialiser(
    call: Call, image: Image, classes: int
) -> Callable[[Key[Array, ""]], tuple[Tree, Tree]]:
    """Return a function of a key: the arrays of the network that `build` returns.

    On the CPU it is a single program, which the cache of compiled programs keeps.
    """

    def arrays(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        return _parts(create(call, image, classes, key))[1:]

    if jax.default_backend() != "cpu":
        return arrays
    return jax.jit(arrays, compiler_options=AS_WRITTEN)


def functional(model: Any, image: Image, compute_dtype: str = "float32") -> Network:
    """Return a network's function apart from its parameters and running statistics.

    Activations are of the given dtype; parameters, statistics and logits are float32.
    """
    return _network(*_parts(model), image, compute_dtype)


def _parts(model: Any) -> tuple[nnx.GraphDef, Tree, Tree]:
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def _network(
    graph: nnx.GraphDef, params: Tree, stats: Tree, image: Image, compute_dtype: str
) -> Network:
    def forward_by(algorithm: Algorithm) -> Forward:
        return _forward(graph, algorithm, compute_dtype)

    outputs, products = [], []

    def pass_once(drop: Drop) -> None:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
        still = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats)
        images = jnp.zeros((1, *image), jnp.float32)
        counted = counting(drop, products)
        outputs.append(forward_by("direct")(zeros, still, images, counted)[0].shape[1:])

    sites = record_sites(pass_once)
    return Network(
        forward_by("windows"), sites, params, stats, outputs[0], tuple(products),
        forward_by,
    )  # fmt: skip


def _forward(graph: nnx.GraphDef, algorithm: Algorithm, compute_dtype: str) -> Forward:
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
        use_algorithm(merged, algorithm)
        # Only networks that keep running statistics are told which rows move them.
        others = (row_weights,) if stats else ()
        logits = merged(images.astype(compute_dtype), drop, *others)
        stats = nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))
        return logits.astype(jnp.float32), stats

    return forward


def counting(drop: Drop, products: list[int]) -> Drop:
    """Return a `drop` that appends the multiplications of each convolution to a list.

    A batch of one has those of an example.
    """

    def drop_and_count(
        site: str, x: Array, *others: Any, time: Time = None, reader: str = ""
    ) -> Array:
        y = drop(site, x, *others, time=time, reader=reader)
        if kind_of(site) == "kernel" and others[0].ndim == 4:
            products.append(math.prod(y.shape) * math.prod(others[0].shape[:3]))
        return y

    return drop_and_count
