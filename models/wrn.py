"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images
from models.layers import HE, Conv, Dense, Depth, NormRelu, Size, require_widths
from models.norms import NormKind, RowWeights
from models.residual import add_blocks, stages
from models.skipping import computed_if_kept


class PreActivation(nnx.Module):
    """Norm, ReLU and convolution, twice, added to a shortcut (He et al. 2016b).

    Where the shape changes, the shortcut is a 1x1 convolution of the first activation.
    The dropout between the convolutions of the paper acts at the site `act2`.
    """

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        *,
        stride: int,
        norm: NormKind,
        key: Key[Array, ""],
    ):
        self.name, (inputs, outputs) = name, channels
        self.outputs = outputs
        self.act1 = NormRelu(f"{name}/act1", inputs, norm)
        self.act2 = NormRelu(f"{name}/act2", outputs, norm)
        self.conv1 = _conv(f"{name}/conv1", channels, 3, stride, norm, key)
        self.conv2 = _conv(f"{name}/conv2", (outputs, outputs), 3, 1, norm, key)
        changes = stride != 1 or inputs != outputs
        project = partial(_conv, f"{name}/shortcut", channels, 1, stride, norm, key)
        self.shortcut = project() if changes else None

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Map (n, h, w, channels in) to (n, h / stride, w / stride, channels out)."""
        active = self.act1(x, drop, row_weights)
        branch = computed_if_kept(
            self,
            f"{self.name}/branch",
            drop,
            lambda block, drop: block.branch(active, drop, row_weights),
        )
        # The shortcut is called before the site `branch`, because the next kernel that
        # is called after a site counts as the one that reads it.
        if self.shortcut:
            x = self.shortcut(active, drop)
        branch = drop(f"{self.name}/branch", branch)
        return drop(self.name, branch + drop(f"{self.name}/shortcut", x))

    def branch(self, active: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Return the convolutions of the first activation, before the site `branch`."""
        x = self.act2(self.conv1(active, drop), drop, row_weights)
        return self.conv2(x, drop)


class WRN(nnx.Module):
    """A network of depth 6 n + 4, `width` times as wide as a residual network.

    It has a convolution, three stages of blocks, a norm, ReLU, the mean over the map
    and a dense layer. With depth 28 and width 10 there are 36,479,194 parameters on
    CIFAR-10.

    Raises:
        ValueError: a depth that is not 6 n + 4, or a width below 1.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        depth: Depth = 16,
        width: Size = 4,
        norm: NormKind = "batch",
    ):
        require_widths("wrn", (width,), 1)
        count = (depth - 4) // 6
        if depth % 6 != 4 or count < 1:
            raise ValueError(f"wrn(depth={depth}): expected 10, 16, 22, ... (6 n + 4).")
        self.conv1 = _conv("conv1", (image[2], 16), 3, 1, norm, key)
        make = partial(PreActivation, norm=norm, key=key)
        layout = stages((count,) * 3, 16 * width)
        self.names, outputs = add_blocks(self, make, 16, layout)
        self.act = NormRelu("act", outputs, norm)
        self.out = Dense("out", (outputs, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity, row_weights: RowWeights = None
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = drop("conv1", self.conv1(drop("input", images), drop))
        for name in self.names:
            x = getattr(self, name)(x, drop, row_weights)
        x = self.act(x, drop, row_weights)
        return self.out(drop("features", x.mean((1, 2))), drop)


def _conv(
    name: str,
    channels: tuple[int, int],
    size: int,
    stride: int,
    norm: NormKind,
    key: Key[Array, ""],
) -> Conv:
    return Conv(
        name, channels, size, padding="SAME", stride=stride, bias=norm == "none",
        key=key, kernel_init=HE,
    )  # fmt: skip
