"""Vision transformers: pre-normalised blocks over patches."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity, named_key
from models.convolution import Images
from models.layers import Dense, Depth, Size, require_widths
from models.norms import last_axis_norm, normalise
from models.transformer import Gelu, TransformerBlock

POSITIONS = jax.nn.initializers.normal(0.02)


class ViT(nnx.Module):
    """A vision transformer on square patches (Dosovitskiy et al. 2021).

    The logits are computed from the mean over the patches' tokens or, with
    `class_token`, from a further token that comes first, whose start and position are
    2 * width further parameters. The site `tokens` has the patches alone, so that what
    drops tokens there leaves the class token; all sites of the blocks have it too.

    Raises:
        ValueError: `patch` does not divide the image, or `heads` the width.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        patch: Size = 7,
        width: Size = 64,
        depth: Depth = 4,
        heads: Size = 4,
        gelu: Gelu = "tanh",
        class_token: bool = False,
    ):
        require_widths("vit", (patch, width, depth, heads), 4)
        require_divisors(image, patch, width, heads)
        self.patch = patch
        self.prefix = int(class_token)
        count = self.prefix + (image[0] // patch) * (image[1] // patch)
        self.patches = Dense("patches", (patch * patch * image[2], width), key=key)
        positions = POSITIONS(
            named_key(key, "positions"), (1, count, width), jnp.float32
        )
        self.positions = nnx.Param(positions)
        if self.prefix:
            self.class_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.names = tuple(f"block{number}" for number in range(1, depth + 1))
        for name in self.names:
            setattr(self, name, TransformerBlock(name, width, heads, key, gelu))
        self.norm = last_axis_norm(width)
        self.out = Dense("out", (width, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = self.patches(cut(drop("input", images), self.patch), drop)
        positions = self.positions[...].astype(x.dtype)
        x = drop("tokens", x + positions[:, self.prefix :])
        if self.prefix:
            token = self.class_token[...].astype(x.dtype) + positions[:, :1]
            token = jnp.broadcast_to(token, (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([token, x], 1)
        for name in self.names:
            x = getattr(self, name)(x, drop)
        x = normalise(self.norm, x, None)
        x = x[:, 0] if self.prefix else x.mean(1)
        return self.out(drop("features", x), drop)


def cut(images: Images, size: int) -> Float[Array, "n patches pixels"]:
    """Cut images into square patches in reading order: (n, h w / size^2, size^2 c)."""
    n, height, width, channels = images.shape
    grid = images.reshape(n, height // size, size, width // size, size, channels)
    return jnp.swapaxes(grid, 2, 3).reshape(n, -1, size * size * channels)


def require_divisors(
    image: tuple[int, int, int], patch: int, width: int, heads: int
) -> None:
    """Raise ValueError for a patch or a number of heads that leaves a remainder."""
    if image[0] % patch or image[1] % patch:
        raise ValueError(
            f"vit(patch={patch}) cannot take {image[0]}x{image[1]} images: expected a "
            "patch that divides both sides."
        )
    if width % heads:
        raise ValueError(f"vit(width={width}, heads={heads}): heads must divide width.")


def vit_tiny(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    patch: Size = 4,
    depth: Depth = 12,
    gelu: Gelu = "tanh",
    class_token: bool = False,
) -> ViT:
    """Return ViT-Ti (Touvron et al. 2021): width 192 and three heads.

    With patches of 16x16 and images of 224x224 there are 5.7 M parameters.
    """
    return ViT(
        image, classes, key, patch=patch, width=192, depth=depth, heads=3, gelu=gelu,
        class_token=class_token,
    )  # fmt: skip


def vit_small(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    patch: Size = 4,
    depth: Depth = 12,
    gelu: Gelu = "tanh",
    class_token: bool = False,
) -> ViT:
    """Return ViT-S (Touvron et al. 2021): width 384 and six heads.

    With patches of 16x16 and images of 224x224 there are 22 M parameters.
    """
    return ViT(
        image, classes, key, patch=patch, width=384, depth=depth, heads=6, gelu=gelu,
        class_token=class_token,
    )  # fmt: skip
