"""The all convolutional net: strided convolutions instead of pooling."""

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, Padding, relu
from models.layers import (
    HE,
    Conv,
    ConvNorm,
    Size,
    rectify,
    require_size,
    require_widths,
)
from models.norms import NormKind, RowWeights

# Kernel size, stride, padding and index into the widths, of each layer but the last.
LAYERS: tuple[tuple[int, int, Padding, int], ...] = (
    (3, 1, "SAME", 0), (3, 1, "SAME", 0), (3, 2, "SAME", 0),
    (3, 1, "SAME", 1), (3, 1, "SAME", 1), (3, 2, "SAME", 1),
    (3, 1, "VALID", 1), (1, 1, "VALID", 1),
)  # fmt: skip


class AllConv(nnx.Module):
    """All-CNN-C (Springenberg et al. 2015): 1,369,738 parameters for CIFAR-10.

    The first three layers are `widths[0]` channels wide, the others `widths[1]`. The
    last convolution has a map for each class, which is rectified and averaged. Dropout
    as published is `input:bernoulli:0.2 conv[36]:bernoulli:0.5`.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        widths: tuple[Size, ...] = (96, 192),
        norm: NormKind = "none",
    ):
        require_widths("all_conv", widths, 2)
        require_size("all_conv", image, 9)
        inputs = image[2]
        self.names = tuple(f"conv{number}" for number in range(1, len(LAYERS) + 1))
        for name, (size, stride, padding, stage) in zip(self.names, LAYERS):
            layer = ConvNorm(
                name, (inputs, widths[stage]), size, norm=norm, key=key,
                padding=padding, stride=stride,
            )  # fmt: skip
            setattr(self, name, layer)
            inputs = widths[stage]
        self.out = Conv(
            "out", (inputs, classes), 1, padding="VALID", key=key, kernel_init=HE
        )

    def __call__(
        self, images: Images, drop: Drop = identity, row_weights: RowWeights = None
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = drop("input", images)
        for name in self.names:
            x = rectify(name, getattr(self, name)(x, drop, row_weights), drop)
        return drop("out/act", self.out(x, drop), relu).mean((1, 2))
