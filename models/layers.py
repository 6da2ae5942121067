"""The layers that all networks share; each names its sites and calls `drop` there."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, named_key
from dropout.deferred import Deferred, as_array
from dropout.grammar import Interval
from dropout.kinds import takes_deferred
from models.convolution import (
    Algorithm,
    Images,
    MaybeDeferred,
    Padding,
    add_bias,
    convolution,
    direct_convolution,
    max_pool,
    relu,
)
from models.norms import NORMS, NormKind, RowWeights, normalise

# Options of networks: above these bounds no machine holds the kernels.
Size = Annotated[int, Interval("[1, 1048576]")]
Depth = Annotated[int, Interval("[1, 4096]")]
Initializer = jax.nn.initializers.Initializer
Convolve = Callable[..., MaybeDeferred]

GLOROT = jax.nn.initializers.glorot_uniform()
# He et al. 2015, eq. 14: fan-out keeps the variance of gradients.
HE = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nnx.Module):
    """A convolution, whose kernel is the site `<name>/kernel`.

    The kernel has the layout HWIO and is initialised in float32 from the key of its
    site. Biases, if there are any, start at 0. With `convolve=deferred_convolution` the
    output may be a `Deferred`, for a network that pools it; with the algorithm "direct"
    it never is.
    """

    algorithm: Algorithm = "windows"

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        size: int,
        *,
        padding: Padding,
        key: Key[Array, ""],
        kernel_init: Initializer = GLOROT,
        stride: int = 1,
        bias: bool = True,
        convolve: Convolve = convolution,
    ):
        self.site = f"{name}/kernel"
        self.convolve = convolve
        self.padding: Padding = padding
        self.stride = stride
        shape = (size, size, *channels)
        self.kernel = nnx.Param(
            kernel_init(named_key(key, self.site), shape, jnp.float32)
        )
        self.bias = nnx.Param(jnp.zeros(channels[1], jnp.float32)) if bias else None

    def __call__(self, x: Images, drop: Drop) -> Any:
        """Map (n, h, w, channels in) to (n, h', w', channels out)."""
        operation = partial(
            self._convolution(drop), padding=self.padding, stride=self.stride
        )
        x = drop(self.site, x, self.kernel[...].astype(x.dtype), operation)
        if self.bias is None:
            return x
        return add_bias(x, over_last_axis(self.bias[...], x))

    def _convolution(self, drop: Drop) -> Convolve:
        if self.algorithm == "direct":
            return direct_convolution
        return self.convolve if takes_deferred(drop) else convolution


def use_algorithm(network: nnx.Module, algorithm: Algorithm) -> None:
    """Let all convolutions of a network be computed by an algorithm."""
    for _, module in nnx.iter_modules(network):
        if isinstance(module, Conv):
            module.algorithm = algorithm


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
        """Map (n, ..., inputs) to (n, ..., outputs)."""
        x = drop(self.site, x, self.kernel[...].astype(x.dtype), jnp.matmul)
        return x + over_last_axis(self.bias[...], x)


class ConvNorm(Conv):
    """A convolution and its norm, with the site `<name>/prenorm` between the two.

    The kernel has He initialisation. There is a bias only if `bias` is set or `norm`
    is "none": a norm has a bias of its own.
    """

    def __init__(
        self,
        name: str,
        channels: tuple[int, int],
        size: int,
        *,
        norm: NormKind,
        key: Key[Array, ""],
        padding: Padding = "SAME",
        stride: int = 1,
        bias: bool = False,
        convolve: Convolve = convolution,
    ):
        super().__init__(
            name, channels, size, padding=padding, key=key, kernel_init=HE,
            stride=stride, bias=bias or norm == "none", convolve=convolve,
        )  # fmt: skip
        self.norm = NORMS[norm](channels[1])
        self.prenorm = f"{name}/prenorm"

    def __call__(self, x: Images, drop: Drop, row_weights: RowWeights = None) -> Any:
        """Map (n, h, w, channels in) to (n, h', w', channels out)."""
        x = drop(self.prenorm, super().__call__(x, drop))
        if self.norm is None:
            return x
        return normalise(self.norm, as_array(x), row_weights)


class NormRelu(nnx.Module):
    """A norm and `rectify`, with the site `<name>/prenorm` before the norm."""

    def __init__(self, name: str, channels: int, norm: NormKind):
        self.name = name
        self.norm = NORMS[norm](channels)

    def __call__(self, x: Array, drop: Drop, row_weights: RowWeights) -> Array:
        """Normalise and rectify a map, which keeps its shape."""
        x = normalise(self.norm, drop(f"{self.name}/prenorm", x), row_weights)
        return rectify(self.name, x, drop)


def rectify(name: str, x: Array | Deferred, drop: Drop) -> Any:
    """Apply ReLU, at the site `<name>/act`, between `<name>/pre` and `<name>`."""
    return drop(name, drop(f"{name}/act", drop(f"{name}/pre", x), relu))


def over_last_axis(
    vector: Float[Array, " c"], like: Float[Array, "*dims c"] | Deferred
) -> Float[Array, "*ones c"]:
    """Reshape and cast a vector so that it broadcasts along an array's last axis."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape).astype(like.dtype)


pool_2x2: Callable[[Images], Images] = partial(
    max_pool, window=(2, 2), strides=(2, 2), padding="VALID"
)


def flatten(x: Float[Array, "n *dims"]) -> Float[Array, "n features"]:
    """Reshape (n, h, w, c) to (n, h w c); channels vary fastest."""
    return x.reshape(x.shape[0], -1)


def require_size(model: str, image: tuple[int, int, int], smallest: int) -> None:
    """Raise ValueError if an image is too small for the network."""
    if min(image[:2]) < smallest:
        raise ValueError(
            f"{model} cannot take {image[0]}x{image[1]} images: the smallest that "
            f"it takes is {smallest}x{smallest}."
        )


def require_widths(model: str, widths: tuple[int, ...], count: int) -> None:
    """Raise ValueError unless there are `count` widths, each at least 1."""
    if len(widths) != count or min(widths, default=1) < 1:
        raise ValueError(f"{model}: widths {widths}; expected {count} of at least 1.")


def require_one_of(model: str, option: str, value: int, allowed: Iterable[int]) -> None:
    """Raise ValueError unless an option has one of the allowed values."""
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{model}({option}={value}): expected one of {names}.")
