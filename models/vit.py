"""A small vision transformer: pre-normalised blocks over patches, mean pooling."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity, named_key
from models.layers import Dense, Images, over_last_axis, require_widths

Tokens = Float[Array, "n tokens width"]

POSITIONS = jax.nn.initializers.normal(0.02)


class LayerNorm(nnx.Module):
    """Gives the last axis mean 0 and variance 1, then scales and shifts it.

    Computed in float32 (Ba et al. 2016).
    """

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: Float[Array, "*dims c"]) -> Float[Array, "*dims c"]:
        """(..., features) -> the same shape and dtype."""
        values = x.astype(jnp.float32)
        centred = values - values.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        scale, bias = (over_last_axis(p[...], values) for p in (self.scale, self.bias))
        return (centred * jax.lax.rsqrt(variance + 1e-6) * scale + bias).astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, name: str, width: int, heads: int, key: Key[Array, ""]):
        self.name, self.heads = name, heads
        self.qkv = Dense(f"{name}/qkv", (width, 3 * width), key=key)
        self.out = Dense(f"{name}/out", (width, width), key=key)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """Mixes tokens by softmax(q k^T / sqrt(d)) v in each head of width d."""
        n, tokens, width = x.shape
        heads = self.qkv(x, drop).reshape(n, tokens, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(heads, (2, 3), (0, 2))
        logits = jnp.matmul(query, key.mT) * query.shape[-1] ** -0.5
        logits = drop(f"{self.name}/logits", logits)
        weights = drop(f"{self.name}/weights", jax.nn.softmax(logits))
        mixed = jnp.moveaxis(jnp.matmul(weights, value), 1, 2)
        return self.out(mixed.reshape(n, tokens, width), drop)


class Perceptron(nnx.Module):
    """Two dense layers on each token, four times as wide in between."""

    def __init__(self, name: str, width: int, key: Key[Array, ""]):
        self.name = name
        self.hidden = Dense(f"{name}/hidden", (width, 4 * width), key=key)
        self.out = Dense(f"{name}/out", (4 * width, width), key=key)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """Dense, GELU, dense."""
        return self.out(drop(self.name, jax.nn.gelu(self.hidden(x, drop))), drop)


class Block(nnx.Module):
    """Attention, then a perceptron, each normalised before and added to its input."""

    def __init__(self, name: str, width: int, heads: int, key: Key[Array, ""]):
        self.name = name
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.attention = Attention(f"{name}/attention", width, heads, key)
        self.mlp = Perceptron(f"{name}/mlp", width, key)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """The same shape."""
        branch = self.attention(self.norm1(x), drop)
        x = x + drop(f"{self.name}/attention/branch", branch)
        return x + drop(f"{self.name}/mlp/branch", self.mlp(self.norm2(x), drop))


class ViT(nnx.Module):
    """Patches, positions, blocks, and the mean over tokens (Dosovitskiy et al. 2021).

    There is no class token, so that every token may be dropped.
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
        self.norm = LayerNorm(width)
        self.out = Dense("out", (width, classes), key=key)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites in the order in which they are called."""
        parts = (
            "attention/qkv/kernel", "attention/logits", "attention/weights",
            "attention/out/kernel", "attention/branch",
            "mlp/hidden/kernel", "mlp", "mlp/out/kernel", "mlp/branch",
        )  # fmt: skip
        blocks = (f"{name}/{part}" for name in self.names for part in parts)
        return "input", "patches/kernel", "tokens", *blocks, "features", "out/kernel"

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Images (n, h, w, c) -> logits (n, classes)."""
        x = self.patches(cut(drop("input", images), self.patch), drop)
        x = drop("tokens", x + self.positions[...].astype(x.dtype))
        for name in self.names:
            x = getattr(self, name)(x, drop)
        return self.out(drop("features", self.norm(x).mean(1)), drop)


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
