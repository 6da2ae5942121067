"""The two convolutional networks of the article that `docs/article.md` describes."""

from functools import partial
from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, Padding, deferred_convolution, relu
from models.layers import (
    Conv,
    Dense,
    Size,
    flatten,
    pool_2x2,
    rectify,
    require_size,
    require_widths,
)


class CNN(nnx.Module):
    """conv 32 - pool - conv 64 - pool - dense 128 - dense: the article's Keras network.

    The 3x3 convolutions have no padding. On 28x28x1 there are 225,034 parameters.
    """

    name: ClassVar[str] = "cnn"
    padding: ClassVar[Padding] = "VALID"
    smallest: ClassVar[int] = 10  # Of images with sides of 10, one pixel is left.

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        widths: tuple[Size, ...] = (32, 64),
        dense: Size = 128,
    ):
        require_size(self.name, image, self.smallest)
        require_widths("cnn", (*widths, dense), 3)
        (first, second), padding = widths, self.padding
        height, width = (after_two_stages(length, padding) for length in image[:2])
        conv = partial(
            Conv, size=3, padding=padding, key=key, convolve=deferred_convolution
        )
        self.conv1 = conv("conv1", (image[2], first))
        self.conv2 = conv("conv2", (first, second))
        self.fc = Dense("fc", (height * width * second, dense), key=key)
        self.out = Dense("out", (dense, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = drop("input", images)
        x = drop("conv1", drop("conv1/act", self.conv1(x, drop), relu))
        x = drop("pool1", drop("pool1/window", x, pool_2x2))
        x = drop("conv2", drop("conv2/act", self.conv2(x, drop), relu))
        x = drop("pool2", drop("pool2/window", x, pool_2x2))
        x = rectify("fc", self.fc(flatten(x), drop), drop)
        return self.out(x, drop)


class CNNSame(CNN):
    """The article's PyTorch network: `CNN` with padding 1 in its convolutions.

    On 28x28x1 there are 421,642 parameters.
    """

    name: ClassVar[str] = "cnn_same"
    padding: ClassVar[Padding] = "SAME"
    smallest: ClassVar[int] = 4


def after_two_stages(length: int, padding: Padding) -> int:
    """Return the length of a side after two convolutions, each followed by pooling."""
    border = 2 if padding == "VALID" else 0
    for _ in range(2):
        length = (length - border) // 2
    return length
