"""Shake-Shake networks (Gastaldi 2017): residual blocks of two branches."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, relu
from models.layers import ConvNorm, Dense, Depth, Size, rectify
from models.norms import NormKind, RowWeights
from models.residual import HalvedShortcut, add_blocks, stages


class ShakePath(nnx.Module):
    """A path of a block: convolution, norm, ReLU, convolution, norm."""

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        *,
        stride: int,
        norm: NormKind,
        key: Key[Array, ""],
    ):
        self.name, outputs = name, channels[1]
        self.conv1 = ConvNorm(
            f"{name}/conv1", channels, 3, stride=stride, norm=norm, key=key
        )
        self.conv2 = ConvNorm(
            f"{name}/conv2", (outputs, outputs), 3, norm=norm, key=key
        )

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Map (n, h, w, channels in) to (n, h / stride, w / stride, channels out)."""
        x = rectify(f"{self.name}/conv1", self.conv1(x, drop, row_weights), drop)
        return self.conv2(x, drop, row_weights)


class ShakeBlock(nnx.Module):
    """The mean of two paths from the rectified input, added to a shortcut.

    The variant `shake_shake` at the site `branches` mixes them in random proportions.
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
        self.name, self.outputs = name, channels[1]
        self.path1, self.path2 = (
            ShakePath(
                f"{name}/path{number}", channels, stride=stride, norm=norm, key=key
            )
            for number in (1, 2)
        )
        changes = stride != 1 or channels[0] != channels[1]
        project = partial(
            HalvedShortcut,
            f"{name}/shortcut",
            channels,
            stride=stride,
            norm=norm,
            key=key,
        )
        self.shortcut = project() if changes else None

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Map (n, h, w, channels in) to (n, h / stride, w / stride, channels out)."""
        entry = drop(f"{self.name}/entry/act", x, relu)
        entry = drop(f"{self.name}/entry", entry)
        paths = self.path1, self.path2
        branches = [path(entry, drop, row_weights) for path in paths]
        if self.shortcut:
            x = self.shortcut(x, drop, row_weights)
        # The site is called after all convolutions of this block, because the next
        # kernel that is called after a site counts as the one that reads it.
        branches = [
            drop(f"{path.name}/branch", branch) for path, branch in zip(paths, branches)
        ]
        branch = drop(f"{self.name}/branches", *branches)
        return drop(self.name, branch + drop(f"{self.name}/shortcut", x))


class ShakeShake(nnx.Module):
    """A network of depth 6 n + 2 whose first stage is `width` channels wide.

    It has a convolution, three stages of blocks, ReLU, the mean over the map and a
    dense layer. The default is the "26 2x32d" of the paper with 2.9 M parameters, which
    is trained with the plan `block*/branches:shake_shake:1.0`.

    Raises:
        ValueError: a depth that is not 6 n + 2, or a width below 2.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        depth: Depth = 26,
        width: Size = 32,
        norm: NormKind = "batch",
    ):
        if width < 2:
            raise ValueError(
                f"shake_shake(width={width}): expected a width of at least 2."
            )
        count = (depth - 2) // 6
        if depth % 6 != 2 or count < 1:
            raise ValueError(
                f"shake_shake(depth={depth}): expected 8, 14, 20, ... (6 n + 2)."
            )
        self.conv1 = ConvNorm("conv1", (image[2], 16), 3, norm=norm, key=key)
        make = partial(ShakeBlock, norm=norm, key=key)
        layout = stages((count,) * 3, width)
        self.names, outputs = add_blocks(self, make, 16, layout)
        self.out = Dense("out", (outputs, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity, row_weights: RowWeights = None
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = self.conv1(drop("input", images), drop, row_weights)
        x = drop("conv1", x)
        for name in self.names:
            x = getattr(self, name)(x, drop, row_weights)
        x = rectify("act", x, drop).mean((1, 2))
        return self.out(drop("features", x), drop)
