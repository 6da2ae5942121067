"""Residual networks (He et al. 2016): for 32x32 images, and in the ImageNet form."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, max_pool
from models.layers import (
    ConvNorm,
    Dense,
    Depth,
    Size,
    rectify,
    require_one_of,
    require_widths,
)
from models.norms import NormKind, RowWeights
from models.residual import BASIC, BOTTLENECK, Block, add_blocks, stages

# Maps the depth to the kernel sizes of a block's branch and the number of blocks per
# stage (He et al. 2016, table 1; 10 and 14 are the smallest of their kinds).
IMAGENET = {
    10: (BASIC, (1, 1, 1, 1)), 14: (BOTTLENECK, (1, 1, 1, 1)),
    18: (BASIC, (2, 2, 2, 2)), 34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)), 101: (BOTTLENECK, (3, 4, 23, 3)),
    152: (BOTTLENECK, (3, 8, 36, 3)),
}  # fmt: skip

# A pixel on each side: XLA's SAME would pad even maps at the end alone.
pool_3x3 = partial(max_pool, window=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class ResNet(nnx.Module):
    """A convolution, blocks in stages, the mean over the map and a dense layer."""

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        sizes: tuple[int, ...],
        counts: tuple[int, ...],
        width: int,
        imagenet: bool,
        norm: NormKind,
    ):
        self.pools = imagenet
        self.conv1 = ConvNorm(
            "conv1", (image[2], width), 7 if imagenet else 3,
            stride=2 if imagenet else 1, norm=norm, key=key,
        )  # fmt: skip
        make = partial(Block, sizes=sizes, projection=imagenet, norm=norm, key=key)
        self.names, outputs = add_blocks(self, make, width, stages(counts, width))
        self.out = Dense("out", (outputs, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity, row_weights: RowWeights = None
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = self.conv1(drop("input", images), drop, row_weights)
        x = rectify("conv1", x, drop)
        if self.pools:
            x = drop("pool1", drop("pool1/window", x, pool_3x3))
        for name in self.names:
            x = getattr(self, name)(x, drop, row_weights)
        return self.out(drop("features", x.mean((1, 2))), drop)


def resnet(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    depth: Depth = 20,
    width: Size = 16,
    norm: NormKind = "batch",
) -> ResNet:
    """Return the form for 32x32 images (published depths: 20, 32, 44, 56 and 110).

    Shortcuts have no parameters (option A). A network of depth 20 has 269,722.

    Raises:
        ValueError: a depth that is not 6 n + 2, or a width below 1.
    """
    require_widths("resnet", (width,), 1)
    count = (depth - 2) // 6
    if depth % 6 != 2 or count < 1:
        raise ValueError(f"resnet(depth={depth}): expected 8, 14, 20, ... (6 n + 2).")
    return ResNet(
        image, classes, key, sizes=BASIC, counts=(count,) * 3, width=width,
        imagenet=False, norm=norm,
    )  # fmt: skip


def resnet_imagenet(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    depth: Depth = 50,
    width: Size = 64,
    norm: NormKind = "batch",
) -> ResNet:
    """Return the form for ImageNet: a 7x7 convolution and a pool before four stages.

    Shortcuts that change the shape are 1x1 convolutions (option B). The stride of a
    bottleneck is in its 3x3 convolution. With depth 50 there are 25,557,032 parameters.

    Raises:
        ValueError: a depth that `IMAGENET` does not have, or a width below 1.
    """
    require_widths("resnet_imagenet", (width,), 1)
    require_one_of("resnet_imagenet", "depth", depth, IMAGENET)
    sizes, counts = IMAGENET[depth]
    return ResNet(
        image, classes, key, sizes=sizes, counts=counts, width=width,
        imagenet=True, norm=norm,
    )  # fmt: skip
