"""Dropout forward and backward, ours and Flax', as calls to be timed."""

from collections.abc import Callable

import jax
from flax import linen, nnx

from benchmarks.timing import Calls
from dropout import Variant
from models.convolution import compiler_options


def draw_of(variant: Variant, key, rate, x):
    """A variant with its default options."""
    return variant(key, x, rate)


def linen_dropout(key, rate, x):
    """Flax's Dropout, whose rate is a constant."""
    layer = linen.Dropout(0.5, deterministic=False)
    return layer.apply({}, x, rngs={"dropout": key})


def nnx_dropout(key, rate, x):
    """The newer one."""
    return nnx.Dropout(0.5, deterministic=False)(x, rngs=nnx.Rngs(key))


def forward_backward(function: Callable, arguments: tuple) -> Calls:
    """Calls of the function and its derivative under one jit."""

    def both(key, rate, x, cotangent):
        y, backward = jax.vjp(lambda x: function(key, rate, x), x)
        return y, backward(cotangent)

    compiled = jax.jit(both, compiler_options=compiler_options())

    def run(calls: int) -> None:
        for _ in range(calls):
            result = compiled(*arguments)
        jax.block_until_ready(result)

    return run


def bytes_kept(function: Callable, key, rate, x) -> int:
    """The size of all arrays that the derivative holds on to."""
    backward = jax.eval_shape(
        lambda key, rate, x: jax.vjp(lambda x: function(key, rate, x), x)[1],
        key, rate, x,
    )  # fmt: skip
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))
