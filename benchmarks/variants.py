"""What `scripts/bench.py` measures of the variants: each at the first kind of site that
it acts at, beside what the plain network does there to an array times a constant."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dropout import VARIANTS, Variant
from dropout.kinds import PLAIN
from models.layers import pool_2x2

MAP = (128, 26, 26, 32)
ATTENTION = (128, 4, 49, 49)
SHAPES = {
    "activation": MAP,
    "input": (128, 32, 32, 3),
    "pre": (128, 1024),
    "branch": MAP,
    "logits": ATTENTION,
    "weights": ATTENTION,
    "kernel": (1, 3, 3, 256, 256),
    "window": MAP,
    "state": (128, 1024),
    "branches": MAP,
}


def groups() -> Iterator[tuple[str, dict[str, Callable]]]:
    """A title, and functions of (key, rate, x), the plain network's first."""
    for kind, shape in SHAPES.items():
        members = {n: v for n, v in VARIANTS.items() if v.kinds[0] == kind}
        others = others_at(kind, shape)
        functions: dict[str, Callable] = {"plain": partial(plain, kind, others)}
        for name, variant in members.items():
            functions[name] = partial(draw, variant, layer_of(variant, kind) or others)
        if members:
            yield kind, functions


def others_at(kind: str, shape: tuple[int, ...]) -> tuple:
    """What a site of this kind passes after x; a kernel is x itself."""
    if kind == "window":
        return (pool_2x2,)
    second = jax.random.uniform(jax.random.key(1), shape)
    return (second,) if kind in ("state", "branches") else ()


def layer_of(variant: Variant, kind: str) -> tuple:
    """A kernel of one weight, for a variant that draws the product with it."""
    if kind != "kernel" or variant.kernel_form != "product":
        return ()
    return jnp.ones((1,) * len(SHAPES[kind])), jnp.multiply


def plain(kind: str, others: tuple, key, rate, x: Array) -> Array:
    """The plain network, x times a constant."""
    scaled = x * jnp.asarray(0.5, x.dtype)
    return scaled if kind == "kernel" else PLAIN[kind](scaled, *others)


def draw(variant: Variant, others: tuple, key, rate, x: Array) -> Array:
    """A variant with its default options."""
    return variant(key, x, rate, *others)
