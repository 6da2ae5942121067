"""VGG with batch normalisation, in the form for 32x32 images."""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from math import prod

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import (
    Images,
    MaybeDeferred,
    convolution,
    deferred_convolution,
    max_pool,
)
from models.layers import (
    HE,
    ConvNorm,
    Dense,
    Depth,
    NormRelu,
    Size,
    flatten,
    rectify,
    require_one_of,
    require_widths,
)
from models.norms import NormKind, RowWeights

# The number of convolutions before each pool, by depth (Simonyan & Zisserman 2015,
# table 1).
STAGES = {
    11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4),
}  # fmt: skip


class VGG(nnx.Module):
    """VGG of depth 11, 13, 16 or 19, whose first stage is `width` channels wide.

    It has 3x3 convolutions in five stages, each followed by a pool, and one hidden
    dense layer, as Zagoruyko 2015 (torch.ch/blog/2015/07/30/cifar.html) trains it on
    CIFAR-10. Convolutions before a norm have biases too; with depth 16 there are
    14,991,946 parameters. Dropout as published, with depth 16: `conv1:bernoulli:0.3
    fc:bernoulli:0.5 pool5:bernoulli:0.5 conv[35689]:bernoulli:0.4
    conv1[12]:bernoulli:0.4`.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        depth: Depth = 16,
        width: Size = 64,
        dense: Size = 512,
        norm: NormKind = "batch",
    ):
        require_widths("vgg", (width, dense), 2)
        require_one_of("vgg", "depth", depth, STAGES)
        counts = STAGES[depth]
        widths = [
            width * min(2**stage, 8)
            for stage, count in enumerate(counts)
            for _ in range(count)
        ]
        self.convs = tuple(f"conv{number}" for number in range(1, len(widths) + 1))
        self.last_of_stages = tuple(self.convs[end - 1] for end in accumulate(counts))
        for name, before, after in zip(self.convs, (image[2], *widths), widths):
            pooled = norm == "none" and name in self.last_of_stages
            layer = ConvNorm(
                name, (before, after), 3, norm=norm, key=key, bias=True,
                convolve=deferred_convolution if pooled else convolution,
            )  # fmt: skip
            setattr(self, name, layer)
        pixels = prod(-(-length // 2 ** len(counts)) for length in image[:2])
        self.fc = Dense("fc", (pixels * widths[-1], dense), key=key, kernel_init=HE)
        self.fc_norm = NormRelu("fc", dense, norm)
        self.out = Dense("out", (dense, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity, row_weights: RowWeights = None
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x, pool = drop("input", images), 0
        for name in self.convs:
            x = rectify(name, getattr(self, name)(x, drop, row_weights), drop)
            if name in self.last_of_stages:
                pool += 1
                halve = halving(x)
                x = drop(f"pool{pool}", drop(f"pool{pool}/window", x, halve))
        x = self.fc_norm(self.fc(flatten(x), drop), drop, row_weights)
        return self.out(x, drop)


def halving(x: MaybeDeferred) -> Callable[[MaybeDeferred], Images]:
    """Return 2x2 pooling that keeps the last row and column of maps with odd sides."""
    odd = x.shape[1] % 2 or x.shape[2] % 2
    return partial(
        max_pool, window=(2, 2), strides=(2, 2), padding="SAME" if odd else "VALID"
    )
