"""Dropout forward and backward, ours and others', as calls to be timed."""

from collections.abc import Callable

import jax
from flax import linen, nnx

from dropout import Variant
from models.convolution import compiler_options
from scripts.bench_peers import Train, torch_device, torch_transforms, torch_wait


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


def forward_backward(function: Callable, arguments: tuple) -> Train:
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


def torch_dropouts(shape: tuple[int, ...], dtype: str) -> dict[str, Train]:
    """PyTorch's dropout, run in each of its ways."""
    return {
        f"{name} dropout": torch_dropout(transform, shape, dtype)
        for name, transform in torch_transforms().items()
    }


def torch_dropout(transform: Callable, shape: tuple[int, ...], dtype: str) -> Train:
    """Calls of PyTorch's dropout and its derivative."""
    import torch  # pyright: ignore[reportMissingImports]

    options = {"device": torch_device(), "dtype": getattr(torch, dtype)}
    x = torch.randn(shape, requires_grad=True, **options)
    cotangent = torch.randn(shape, **options)

    @transform
    def dropped(x):
        return torch.nn.functional.dropout(x, 0.5)

    def run(calls: int) -> None:
        for _ in range(calls):
            torch.autograd.grad(dropped(x), x, cotangent)
        torch_wait()

    return run
