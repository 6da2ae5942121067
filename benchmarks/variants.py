"""The time of each variant at its first kind of site, and of the plain network there.

The plain network gets the array times a constant, so that a ratio of 1 means that a
mask costs as much as a multiplication.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from benchmarks.operations import TimedOperation, apply_variant, forward_backward
from benchmarks.request import Request, timed
from benchmarks.tables import Results
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
    "act": MAP,
}


def measure_variants(request: Request) -> Iterator[tuple[str, Results]]:
    """Time every variant at a site of its kind, and the plain network there."""
    key = jax.random.key(0)
    for kind, functions in groups():
        shape = SHAPES[kind]
        x = jax.random.uniform(key, shape)
        y = jax.eval_shape(functions["plain"], key, 0.5, x)
        arguments = (key, jnp.float32(0.5), x, jnp.ones(y.shape, y.dtype))
        contestants = {n: forward_backward(f, arguments) for n, f in functions.items()}
        size = "x".join(map(str, shape))
        yield f"variants at {kind}, {size} float32", timed(request, kind, contestants)


def groups() -> Iterator[tuple[str, dict[str, TimedOperation]]]:
    """Yield each kind of site with its functions, of which the plain one is first."""
    for kind, shape in SHAPES.items():
        variants = {n: v for n, v in VARIANTS.items() if v.kinds[0] == kind}
        others = others_at(kind, shape)
        functions: dict[str, TimedOperation] = {"plain": partial(plain, kind, others)}
        for name, variant in variants.items():
            passed = layer_of(variant, kind) or others
            functions[name] = partial(apply_variant, variant, passed)
        if variants:
            yield kind, functions


def others_at(kind: str, shape: tuple[int, ...]) -> tuple:
    """Return the arguments after x at a site of this kind; at a kernel, x is it."""
    if kind in ("window", "act"):
        return (pool_2x2 if kind == "window" else jax.nn.relu,)
    second = jax.random.uniform(jax.random.key(1), shape)
    return (second,) if kind in ("state", "branches") else ()


def layer_of(variant: Variant, kind: str) -> tuple:
    """Return a kernel of one weight and its operation, for variants that need them."""
    if kind != "kernel" or variant.kernel_form != "product":
        return ()
    return jnp.ones((1,) * len(SHAPES[kind])), jnp.multiply


def plain(
    kind: str, others: tuple, key: Key[Array, ""], rate: Float[Array, ""], x: Array
) -> Array:
    """Return the plain network's result for x times a constant."""
    scaled = x * jnp.asarray(0.5, x.dtype)
    return scaled if kind == "kernel" else PLAIN[kind](scaled, *others)
