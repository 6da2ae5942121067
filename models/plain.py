"""A deep plain convolutional network: no normalisation, no shortcuts."""

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, convolution, deferred_convolution, relu
from models.layers import Conv, Dense, Depth, Size, pool_2x2, require_size

# He et al. 2015, eq. 10: fan-in keeps the variance of activations, since no norm does.
HE_FAN_IN = jax.nn.initializers.he_normal()


class Plain(nnx.Module):
    """A plain network of `depth` 3x3 convolutions in three stages.

    The first stage is `width` channels wide; each later one is twice as wide, on maps
    half as large. The network shows vanishing and exploding gradients. It has He
    initialisation, rectified units and global average pooling.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        depth: Depth = 18,
        width: Size = 16,
    ):
        if depth < 3 or width < 1:
            raise ValueError(
                f"plain(depth={depth}, width={width}): expected depth >= 3 and "
                "width >= 1."
            )
        require_size("plain", image, 4)
        widths = [width * 2 ** (3 * layer // depth) for layer in range(depth)]
        self.names = tuple(f"conv{number}" for number in range(1, depth + 1))
        # A stage ends where the width doubles.
        self.pooled = tuple(
            name for name, a, b in zip(self.names, widths, widths[1:]) if a < b
        )
        for name, before, after in zip(self.names, [image[2], *widths], widths):
            layer = Conv(
                name, (before, after), 3, padding="SAME", key=key,
                kernel_init=HE_FAN_IN,
                convolve=deferred_convolution if name in self.pooled else convolution,
            )  # fmt: skip
            setattr(self, name, layer)
        self.out = Dense("out", (widths[-1], classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = drop("input", images)
        for name in self.names:
            x = drop(f"{name}/act", getattr(self, name)(x, drop), relu)
            x = drop(name, x)
            if name in self.pooled:
                pool = name.replace("conv", "pool")
                x = drop(pool, drop(f"{pool}/window", x, pool_2x2))
        return self.out(drop("features", x.mean((1, 2))), drop)
