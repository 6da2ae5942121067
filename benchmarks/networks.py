"""The networks of `scripts/bench.py` as lists of layers, which each peer builds."""

from typing import NamedTuple

import numpy as np

CLASSES = 10


class Convolution(NamedTuple):
    """A convolution with a square kernel, padded SAME or VALID."""

    channels: int
    size: int = 3
    stride: int = 1
    padding: str = "SAME"
    bias: bool = True


class DenseLayer(NamedTuple):
    """A dense layer: a matrix and a bias."""

    width: int


class Residual(NamedTuple):
    """A branch, and a shortcut that is strided, padded with zeros and added to it.

    Attributes:
        more_channels: the number of channels of zeros added to the shortcut.
    """

    branch: tuple["Layer", ...]
    stride: int
    more_channels: int


# A text is one of: norm and dense norm (batch norm), relu, pool (2x2 max-pooling), mean
# (over the map), flatten, dropout (rate 0.5).
Layer = Convolution | DenseLayer | Residual | str
Layers = tuple[Layer, ...]
ImagesAndLabels = tuple[np.ndarray, np.ndarray]


def pooled(channels: int, size: int, padding: str, *between: str) -> Layers:
    """Return a convolution, further layers, and the pooling after them."""
    return (Convolution(channels, size, padding=padding), *between, "pool")


def hidden(width: int, *between: str) -> Layers:
    """Return a dense layer, further layers, and the ReLU after them."""
    return (DenseLayer(width), *between, "relu")


def normed(channels: int, stride: int = 1, bias: bool = False) -> Layers:
    """Return a convolution and its batch norm."""
    return (Convolution(channels, stride=stride, bias=bias), "norm")


def vgg_16(width: int) -> Layers:
    """Return VGG-16 with batch norm and one hidden layer."""
    stages = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
    convolutions: Layers = ()
    for stage in stages:
        for factor in stage:
            convolutions += (*normed(factor * width, bias=True), "relu")
        convolutions += ("pool",)
    return (
        *convolutions,
        "flatten",
        *hidden(512, "dense norm"),
        "dropout",
        DenseLayer(CLASSES),
    )


def resnet_20() -> Layers:
    """Return ResNet-20 for 32x32 images (He et al. 2016, section 4.2)."""
    blocks: Layers = ()
    for channels in (16, 32, 64):
        for number in range(3):
            first = number == 0 and channels > 16
            stride, more = (2, channels // 2) if first else (1, 0)
            branch = (*normed(channels, stride), "relu", *normed(channels))
            blocks += (Residual(branch, stride, more), "relu")
    return (*normed(16), "relu", *blocks, "mean", DenseLayer(CLASSES))


def all_conv() -> Layers:
    """Return All-CNN-C (Springenberg et al. 2015)."""
    body = [Convolution(96), Convolution(96), Convolution(96, stride=2)]
    body += [Convolution(192), Convolution(192), Convolution(192, stride=2)]
    body += [Convolution(192, padding="VALID")]
    body += [Convolution(192, 1), Convolution(CLASSES, 1)]
    return (*(layer for each in body for layer in (each, "relu")), "mean")


# The keys are values of `--model`.
NETWORKS: dict[str, Layers] = {
    "cnn": (
        *pooled(32, 3, "VALID", "relu"), *pooled(64, 3, "VALID", "relu"),
        "flatten", *hidden(128), "dropout", DenseLayer(CLASSES),
    ),
    "cnn_same": (
        *pooled(32, 3, "SAME", "relu"), *pooled(64, 3, "SAME", "relu"),
        "flatten", *hidden(128), "dropout", DenseLayer(CLASSES),
    ),
    "lenet": (
        *pooled(20, 5, "VALID"), *pooled(50, 5, "VALID"),
        "flatten", *hidden(500), "dropout", DenseLayer(CLASSES),
    ),
    "mlp": (
        "flatten", *hidden(1024), "dropout", *hidden(1024), "dropout",
        DenseLayer(CLASSES),
    ),
    "vgg(width=16)": vgg_16(16),
    "vgg(width=64)": vgg_16(64),
    "resnet(depth=20)": resnet_20(),
    "all_conv": all_conv(),
}  # fmt: skip
