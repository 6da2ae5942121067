"""Vision transformers: pre-normalised blocks over patches, mean pooling."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity, named_key
from models.layers import Dense, Images, require_widths
from models.norms import last_axis_norm, normalise
from models.transformer import Block

POSITIONS = jax.nn.initializers.normal(0.02)


class ViT(nnx.Module):
    """Patches, positions, blocks, and the mean over tokens (Dosovitskiy et al. 2021).

    There is no class token, so that every token may be dropped: 2 * width parameters
    fewer than with one and its position.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
    ):
        self.patch = patch
        count = (image[0] // patch) * (image[1] // patch)
        self.patches = Dense("patches", (patch * patch * image[2], width), key=key)
        positions = POSITIONS(
            named_key(key, "positions"), (1, count, width), jnp.float32
        )
        self.positions = nnx.Param(positions)
        self.names = tuple(f"block{number}" for number in range(1, depth + 1))
        for name in self.names:
            setattr(self, name, Block(name, width, heads, key))
        self.norm = last_axis_norm(width)
        self.out = Dense("out", (width, classes), key=key)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites in the order in which they are called."""
        blocks = (f"{name}/{part}" for name in self.names for part in Block.sites)
        return "input", "patches/kernel", "tokens", *blocks, "features", "out/kernel"

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Images (n, h, w, c) -> logits (n, classes)."""
        x = self.patches(cut(drop("input", images), self.patch), drop)
        x = drop("tokens", x + self.positions[...].astype(x.dtype))
        for name in self.names:
            x = getattr(self, name)(x, drop)
        x = normalise(self.norm, x, None).mean(1)
        return self.out(drop("features", x), drop)


def cut(images: Images, size: int) -> Float[Array, "n patches pixels"]:
    """Square patches in reading order, (n, h w / size^2, size^2 c)."""
    n, height, width, channels = images.shape
    grid = images.reshape(n, height // size, size, width // size, size, channels)
    return jnp.swapaxes(grid, 2, 3).reshape(n, -1, size * size * channels)


def vit(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    patch: int = 7,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
) -> ViT:
    """A vision transformer on square patches.

    Raises:
        ValueError: a patch that does not divide the image, or heads the width.
    """
    require_widths("vit", (patch, width, depth, heads), 4)
    if image[0] % patch or image[1] % patch:
        raise ValueError(
            f"vit(patch={patch}) cannot take {image[0]}x{image[1]} images: expected a "
            "patch that divides both sides."
        )
    if width % heads:
        raise ValueError(f"vit(width={width}, heads={heads}): heads must divide width.")
    return ViT(image, classes, key, patch=patch, width=width, depth=depth, heads=heads)


def vit_tiny(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    patch: int = 4,
    depth: int = 12,
) -> ViT:
    """ViT-Ti (Touvron et al. 2021): width 192, three heads; 5.7 M parameters at /16."""
    return vit(image, classes, key, patch=patch, width=192, depth=depth, heads=3)


def vit_small(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    patch: int = 4,
    depth: int = 12,
) -> ViT:
    """ViT-S (Touvron et al. 2021): width 384, six heads; 22 M parameters at /16."""
    return vit(image, classes, key, patch=patch, width=384, depth=depth, heads=6)
