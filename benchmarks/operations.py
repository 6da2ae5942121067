"""The times of dropout, ours and Flax's, forward and backward."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float, Key

from benchmarks.generators import generator_dropouts
from benchmarks.request import Request, timed
from benchmarks.tables import Results
from benchmarks.timing import Calls
from benchmarks.with_torch import torch_dropouts
from dropout import VARIANTS, Variant
from training.runtime.compilation import compiled

SHAPE = (26, 26, 32)  # The output of the first convolution of `cnn`, per example.
TracedRate = Float[Array, ""]
TimedOperation = Callable[[Key[Array, ""], TracedRate, Array], Array]


def measure_operations(request: Request) -> Iterator[tuple[str, Results]]:
    """Time dropout, forward and backward, beside a multiplication by a constant."""
    key, rate = jax.random.key(0), jnp.float32(0.5)
    shape = (request.rows, *SHAPE)
    x, cotangent = jax.random.normal(key, (2, *shape), request.dtype)
    functions = operations(request.variants)
    arguments = (key, rate, x, cotangent)
    contestants = {n: forward_backward(f, arguments) for n, f in functions.items()}
    contestants |= torch_dropouts(shape, request.dtype)
    results = timed(request, "operations", contestants)
    for name, function in functions.items():
        kept = bytes_kept(function, key, rate, x)
        results[name] = results[name]._replace(kept=kept)
    size = "x".join(map(str, shape))
    yield f"dropout forward and backward, {size} {request.dtype}", results


def operations(names: tuple[str, ...]) -> dict[str, TimedOperation]:
    """Return the functions to time: two baselines, the variants, Flax's dropouts and
    dropout by hand, these with each of JAX's generators.

    Args:
        names: the variants to include; empty for all of `measurable`.
    """
    chosen = {n: v for n, v in measurable().items() if not names or n in names}
    return {
        "constant": lambda key, rate, x: x * jnp.asarray(0.5, x.dtype),
        "copy": lambda key, rate, x: jnp.copy(x),
        **{n: partial(apply_variant, v, ()) for n, v in chosen.items()},
        "flax.linen.Dropout": linen_dropout,
        **generator_dropouts(),
    }


def measurable() -> dict[str, Variant]:
    """Return the variants that need no argument but a feature map."""
    maps = {"activation", "branch"}
    return {n: v for n, v in VARIANTS.items() if maps & set(v.kinds)}


def apply_variant(
    variant: Variant, others: tuple, key: Key[Array, ""], rate: TracedRate, x: Array
) -> Array:
    """Apply a variant with default options; the site passes `others` after x."""
    return variant(key, x, rate, *others)


def linen_dropout(key: Key[Array, ""], rate: TracedRate, x: Array) -> Array:
    """Apply Flax Linen's Dropout, whose rate is a constant."""
    layer = linen.Dropout(0.5, deterministic=False)
    output = layer.apply({}, x, rngs={"dropout": key})
    assert isinstance(output, jax.Array)  # and not a pair with changed variables
    return output


def forward_backward(function: TimedOperation, arguments: tuple) -> Calls:
    """Return a function that calls `function` and its derivative, compiled together.

    The arguments are key, rate, x and the cotangent of the function's value.
    """

    def both(key, rate, x, cotangent):
        y, backward = jax.vjp(lambda x: function(key, rate, x), x)
        return y, backward(cotangent)

    program = compiled(both)

    def run(calls: int) -> None:
        for _ in range(calls):
            result = program(*arguments)
        jax.block_until_ready(result)

    return run


def bytes_kept(
    function: TimedOperation, key: Key[Array, ""], rate: TracedRate, x: Array
) -> int:
    """Return the bytes of all arrays that the forward pass keeps for the backward."""
    backward = jax.eval_shape(
        lambda key, rate, x: jax.vjp(lambda x: function(key, rate, x), x)[1],
        key, rate, x,
    )  # fmt: skip
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))
