"""The two convolutional networks of the founding article."""

from typing import Literal

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import relu
from models.layers import (
    Conv,
    Dense,
    Images,
    flatten,
    pool_2x2,
    require_size,
    require_widths,
)

SITES = (
    "input",
    "conv1/kernel", "conv1", "pool1/window", "pool1",
    "conv2/kernel", "conv2", "pool2/window", "pool2",
    "fc/kernel", "fc/pre", "fc",
    "out/kernel",
)  # fmt: skip


class CNN(nnx.Module):
    """conv 32 - pool - conv 64 - pool - dense 128 - dense: the article's networks.

    225,034 parameters on 28x28x1 with padding VALID, 421,642 with SAME.
    """

    sites = SITES

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        padding: Literal["VALID", "SAME"],
        widths: tuple[int, ...],
        dense: int,
    ):
        require_widths("cnn", (*widths, dense), 3)
        first, second = widths
        sizes = [_after_two_stages(length, padding) for length in image[:2]]
        self.conv1 = Conv("conv1", (image[2], first), 3, padding=padding, key=key)
        self.conv2 = Conv("conv2", (first, second), 3, padding=padding, key=key)
        self.fc = Dense("fc", (sizes[0] * sizes[1] * second, dense), key=key)
        self.out = Dense("out", (dense, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Images (n, h, w, c) -> logits (n, classes)."""
        x = drop("input", images)
        x = drop("conv1", relu(self.conv1(x, drop)))
        x = drop("pool1", drop("pool1/window", x, pool_2x2))
        x = drop("conv2", relu(self.conv2(x, drop)))
        x = drop("pool2", drop("pool2/window", x, pool_2x2))
        x = drop("fc/pre", self.fc(flatten(x), drop))
        x = drop("fc", relu(x))
        return self.out(x, drop)


def cnn(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    widths: tuple[int, ...] = (32, 64),
    dense: int = 128,
) -> CNN:
    """The article's Keras network: 3x3 convolutions without padding."""
    require_size("cnn", image, 10)
    return CNN(image, classes, key, padding="VALID", widths=widths, dense=dense)


def cnn_same(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    widths: tuple[int, ...] = (32, 64),
    dense: int = 128,
) -> CNN:
    """The article's PyTorch network: 3x3 convolutions with padding 1."""
    require_size("cnn_same", image, 4)
    return CNN(image, classes, key, padding="SAME", widths=widths, dense=dense)


def _after_two_stages(length: int, padding: str) -> int:
    border = 2 if padding == "VALID" else 0
    for _ in range(2):
        length = (length - border) // 2
    return length
