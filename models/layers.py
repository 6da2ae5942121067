"""The layers that all networks share; each names its site and asks `drop` there."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, named_key
from models.convolution import Images, Padding, add_bias, convolution, max_pool

Initializer = jax.nn.initializers.Initializer

GLOROT = jax.nn.initializers.glorot_uniform()


class Conv(nnx.Module):
    """A convolution with stride 1, whose kernel is the site `<name>/kernel`.

    The kernel is HWIO, drawn in float32 from the key of its site; biases start at 0.
    """

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        size: int,
        *,
        padding: Padding,
        key: Key[Array, ""],
        kernel_init: Initializer = GLOROT,
    ):
        self.site = f"{name}/kernel"
        self.padding: Padding = padding
        shape = (size, size, *channels)
        self.kernel = nnx.Param(
            kernel_init(named_key(key, self.site), shape, jnp.float32)
        )
        self.bias = nnx.Param(jnp.zeros(channels[1], jnp.float32))

    def __call__(self, x: Images, drop: Drop) -> Images:
        """(n, h, w, channels in) -> (n, h', w', channels out)."""
        convolve = partial(convolution, padding=self.padding)
        x = drop(self.site, x, self.kernel[...].astype(x.dtype), convolve)
        return add_bias(x, over_last_axis(self.bias[...], x))


class Dense(nnx.Module):
    """An affine map of the last axis, whose kernel is the site `<name>/kernel`."""

    def __init__(
        self,
        name: str,
        features: tuple[int, int],
        *,
        key: Key[Array, ""],
        kernel_init: Initializer = GLOROT,
    ):
        self.site = f"{name}/kernel"
        self.kernel = nnx.Param(
            kernel_init(named_key(key, self.site), features, jnp.float32)
        )
        self.bias = nnx.Param(jnp.zeros(features[1], jnp.float32))

    def __call__(
        self, x: Float[Array, "n *positions inputs"], drop: Drop
    ) -> Float[Array, "n *positions outputs"]:
        """(n, ..., inputs) -> (n, ..., outputs)."""
        x = drop(self.site, x, self.kernel[...].astype(x.dtype), jnp.matmul)
        return x + over_last_axis(self.bias[...], x)


def over_last_axis(
    vector: Float[Array, " c"], like: Float[Array, "*dims c"]
) -> Float[Array, "*ones c"]:
    """A vector in the rank and dtype of an array whose last axis it spans."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape).astype(like.dtype)


pool_2x2: Callable[[Images], Images] = partial(
    max_pool, window=(2, 2), strides=(2, 2), padding="VALID"
)


def flatten(x: Float[Array, "n *dims"]) -> Float[Array, "n features"]:
    """(n, h, w, c) -> (n, h w c), channels fastest."""
    return x.reshape(x.shape[0], -1)


def require_size(model: str, image: tuple[int, int, int], smallest: int) -> None:
    """Raises ValueError for an image that is too small for the network."""
    if min(image[:2]) < smallest:
        raise ValueError(
            f"{model} cannot take {image[0]}x{image[1]} images: the smallest it can "
            f"is {smallest}x{smallest}."
        )


def require_widths(model: str, widths: tuple[int, ...], count: int) -> None:
    """Raises ValueError unless there are `count` widths, each at least 1."""
    if len(widths) != count or min(widths, default=1) < 1:
        raise ValueError(f"{model}: widths {widths}; expected {count} of at least 1.")
