"""Blocks of residual networks, and their layout in stages."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from dropout import Drop
from models.convolution import Images, relu
from models.layers import HE, Conv, ConvNorm, rectify
from models.norms import NORMS, NormKind, RowWeights, normalise
from models.skipping import computed_if_kept

BASIC, BOTTLENECK = (3, 3), (1, 3, 1)


class Block(nnx.Module):
    """A branch of convolutions, added to a shortcut and then rectified.

    A branch of three is a bottleneck, four times as wide at its end. The first 3x3
    convolution has the stride. Where input and output differ in shape, the shortcut is
    a 1x1 convolution if `projection` is set; otherwise it takes every other pixel and
    adds channels of zeros.
    """

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        *,
        sizes: tuple[int, ...],
        stride: int,
        projection: bool,
        norm: NormKind,
        key: Key[Array, ""],
    ):
        self.name, self.stride, (inputs, width) = name, stride, channels
        self.outputs = width * (4 if sizes == BOTTLENECK else 1)
        self.convs = tuple(f"conv{number}" for number in range(1, len(sizes) + 1))
        widths = (inputs, *(width,) * (len(sizes) - 1), self.outputs)
        for index, conv in enumerate(self.convs):
            layer = ConvNorm(
                f"{name}/{conv}", (widths[index], widths[index + 1]), sizes[index],
                stride=stride if index == sizes.index(3) else 1, norm=norm, key=key,
            )  # fmt: skip
            setattr(self, conv, layer)
        changes = stride != 1 or inputs != self.outputs
        project = partial(
            ConvNorm, f"{name}/shortcut", (inputs, self.outputs), 1, stride=stride,
            norm=norm, key=key,
        )  # fmt: skip
        self.shortcut = project() if projection and changes else None

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Map (n, h, w, channels in) to (n, h / stride, w / stride, channels out)."""
        name, entry = self.name, x
        branch = computed_if_kept(
            self,
            f"{name}/branch",
            drop,
            lambda block, drop: block.branch(entry, drop, row_weights),
        )
        # A projection is called before the site `branch`, because the next kernel that
        # is called after a site counts as the one that reads it.
        if self.shortcut:
            x = self.shortcut(x, drop, row_weights)
        branch = drop(f"{name}/branch", branch)
        if not self.shortcut:
            x = enlarge(x[:, :: self.stride, :: self.stride], self.outputs)
        return rectify(name, branch + drop(f"{name}/shortcut", x), drop)

    def branch(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Return the output of the convolutions, before the site `branch`."""
        (*inner, last), name = self.convs, self.name
        x = drop(f"{name}/entry", x)
        for conv in inner:
            x = getattr(self, conv)(x, drop, row_weights)
            x = rectify(f"{name}/{conv}", x, drop)
        return getattr(self, last)(x, drop, row_weights)


class HalvedShortcut(nnx.Module):
    """Two 1x1 convolutions side by side, on maps shifted by a pixel, and a norm.

    With stride 2 the first convolution reads every other pixel, and the second reads
    the pixels above and to the left of those. Each yields half of the channels
    (Gastaldi 2017).
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
        self.stride, self.prenorm, self.act = stride, f"{name}/prenorm", f"{name}/act"
        first = channels[1] // 2
        self.conv1, self.conv2 = (
            Conv(
                f"{name}/conv{number}", (channels[0], half), 1, padding="VALID",
                key=key, kernel_init=HE, stride=stride, bias=norm == "none",
            )
            for number, half in enumerate((first, channels[1] - first), 1)
        )  # fmt: skip
        self.norm = NORMS[norm](channels[1])

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights) -> Images:
        """Map (n, h, w, channels in) to (n, h / stride, w / stride, channels out)."""
        x = drop(self.act, x, relu)
        shifted = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
        halves = self.conv1(x, drop), self.conv2(shifted, drop)
        x = drop(self.prenorm, jnp.concatenate(halves, axis=-1))
        return normalise(self.norm, x, row_weights)


def stages(counts: tuple[int, ...], width: int) -> Iterator[tuple[str, int, int]]:
    """Yield the name, width and stride of each block.

    Each stage after the first is twice as wide, and begins with stride 2.
    """
    number = 0
    for stage, count in enumerate(counts):
        for index in range(count):
            number += 1
            yield f"block{number}", width * 2**stage, 2 if stage and not index else 1


def add_blocks(
    network: nnx.Module,
    make: Callable[..., Any],
    inputs: int,
    layout: Iterable[tuple[str, int, int]],
) -> tuple[tuple[str, ...], int]:
    """Attach blocks to a network; return their names and the output channels.

    Args:
        network: the network whose attributes they become.
        make: (name, (channels before, width), stride=...) -> a block.
        inputs: the number of channels before the first block.
        layout: the name, width and stride of each block, as `stages` gives them.
    """
    names = []
    for name, width, stride in layout:
        block = make(name, (inputs, width), stride=stride)
        setattr(network, name, block)
        inputs = block.outputs
        names.append(name)
    return tuple(names), inputs


def enlarge(x: Images, channels: int) -> Images:
    """Return the map with channels of zeros appended, `channels` in all."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
