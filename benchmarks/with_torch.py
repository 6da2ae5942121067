"""Dropout and training steps in PyTorch, on a GPU if there is one."""

import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.networks import (
    Convolution,
    DenseLayer,
    ImagesAndLabels,
    Layer,
    Layers,
    Residual,
)
from benchmarks.timing import Calls


def torch_transforms() -> dict[str, Callable[[Callable], Callable]]:
    """Return the ways to run a function in PyTorch by name; none if not installed."""
    if not importlib.util.find_spec("torch"):
        return {}
    import torch  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        return {"pytorch": lambda function: function}
    # TF32, since JAX multiplies float32 in TF32 by default on the same card.
    torch.set_float32_matmul_precision("high")
    return {
        "pytorch": lambda function: function,
        "torch.compile": torch.compile,
        "with CUDA graphs": partial(torch.compile, mode="reduce-overhead"),
    }


def torch_device() -> str:
    """Return the device on which PyTorch computes: the GPU if there is one."""
    import torch  # pyright: ignore[reportMissingImports]

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_wait() -> None:
    """Wait for the GPU, if there is one."""
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_training(
    transform: Callable, layers: Layers, data: ImagesAndLabels, batch_size: int
) -> Calls:
    """Return training steps whose loss runs under one of `torch_transforms`."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    device = torch_device()
    pixels = np.ascontiguousarray(data[0].transpose(0, 3, 1, 2))
    images = torch.from_numpy(pixels).to(device)
    labels = torch.from_numpy(data[1].astype(np.int64)).to(device)
    model = torch.nn.Sequential(*map(torch_layer, layers)).to(device)
    model(images[:2])  # The lazy layers take their sizes in this call.
    optimizer = torch.optim.Adam(model.parameters(), fused=device == "cuda")

    @transform
    def loss_of(images, labels):
        return torch.nn.functional.cross_entropy(model(images), labels)

    def train(steps: int) -> None:
        for ids in torch.randint(len(labels), (steps, batch_size), device=device):
            optimizer.zero_grad()
            loss_of(images[ids], labels[ids]).backward()
            optimizer.step()
        torch_wait()

    return train


def torch_layer(layer: Layer):
    """Return one layer for features of the layout NCHW."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    match layer:
        case Convolution(channels, size, stride, padding, bias):
            border = (size - 1) // 2 if padding == "SAME" else 0
            return nn.LazyConv2d(channels, size, stride, border, bias=bias)
        case DenseLayer(width):
            return nn.LazyLinear(width)
        case Residual(branch, stride, more):
            return torch_residual(branch, stride, more)
        case str(word):
            return {
                "norm": nn.LazyBatchNorm2d,
                "dense norm": nn.LazyBatchNorm1d,
                "relu": nn.ReLU,
                "pool": partial(nn.MaxPool2d, 2),
                "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                "flatten": nn.Flatten,
                "dropout": partial(nn.Dropout, 0.5),
            }[word]()


def torch_residual(branch: Layers, stride: int, more: int):
    """Return a branch and its shortcut, padded with channels of zeros."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(*map(torch_layer, branch))

        def forward(self, x):
            short = x[:, :, ::stride, ::stride]
            return self.branch(x) + nn.functional.pad(short, (0, 0, 0, 0, 0, more))

    return Block()


def torch_dropouts(shape: tuple[int, ...], dtype: str) -> dict[str, Calls]:
    """Return PyTorch's dropout in each of the ways to run it that are available."""
    return {
        f"{name} dropout": torch_dropout(transform, shape, dtype)
        for name, transform in torch_transforms().items()
    }


def torch_dropout(transform: Callable, shape: tuple[int, ...], dtype: str) -> Calls:
    """Return a function that calls PyTorch's dropout and its derivative."""
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
