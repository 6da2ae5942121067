"""A convolution that is computed where it is read: whole, or as its pooled result."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, DTypeLike, Float

from dropout.bits import Seeds
from dropout.deferred import Deferred
from dropout.noise import KeepOrDrop, Noise, remake, scale, times
from models.convolution.pooling import (
    Bias,
    at_corners,
    largest,
    largest_kept,
    largest_noisy,
    packed,
    rectified,
)
from models.convolution.products import Images
from models.convolution.whole import Padding, convolution, output_shape, pads_of
from models.convolution.windows import corners
from models.convolution.winograd import ConvKernel


class Drawn(NamedTuple):
    """What noise is a function of, besides the shape (`dropout.noise.multiply`)."""

    seeds: Seeds
    rate: Float[Array, ""]
    given: tuple[Array, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DeferredConvolution(Deferred):
    """A convolution plus a bias, then ReLU, then a product with noise.

    Each of the three may be missing. What is done in another order is done to the
    array. Where 2x2 windows of it are pooled, the array is never computed.

    Attributes:
        x: the image.
        kernel: the kernel.
        padding: as in `convolution`; the stride is 1.
        bias: the bias of each channel.
        rectifies: whether ReLU is applied.
        noise: the noise, as a function of what is `drawn`.
        drawn: the arguments of the noise.
    """

    x: Images
    kernel: ConvKernel
    padding: Padding = field(metadata={"static": True})
    bias: Bias | None = None
    rectifies: bool = field(default=False, metadata={"static": True})
    noise: Noise | None = field(default=None, metadata={"static": True})
    drawn: Drawn | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return output_shape(self.x, self.kernel, self.padding)

    @property
    def dtype(self) -> DTypeLike:
        """The dtype of the array."""
        return self.x.dtype

    def plus(self, bias: Bias) -> "MaybeDeferred":
        """Add a bias to each channel."""
        if self.bias is not None or self.rectifies or self.drawn:
            return self.array() + bias
        return replace(self, bias=bias)

    def rectify(self) -> "MaybeDeferred":
        """Apply ReLU."""
        if self.drawn:
            return jax.nn.relu(self.array())
        return replace(self, rectifies=True)

    def times(
        self,
        noise: Noise,
        seeds: Seeds,
        rate: Float[Array, ""],
        given: tuple[Array, ...],
    ) -> "MaybeDeferred":
        """Multiply by noise."""
        if self.drawn:
            return times(noise, seeds, rate, self.array(), *given)
        # In a loop over members or micro-batches, the seeds of each turn would be cut
        # out of those of all turns anew for each element, and nothing be vectorised.
        drawn = Drawn(*materialize((seeds, rate, given)))
        return replace(self, noise=noise, drawn=drawn)

    def array(self) -> Images:
        """Compute the whole convolution, and what was done to it."""
        y = convolution(self.x, self.kernel, padding=self.padding)
        y = y if self.bias is None else y + self.bias
        y = jax.nn.relu(y) if self.rectifies else y
        if self.noise is None or self.drawn is None:
            return y
        seeds, rate, given = self.drawn
        return times(self.noise, seeds, rate, y, *given)

    def pooled(self) -> Images:
        """Return the largest value in each window of 2x2.

        Bias and ReLU do not change which value is the largest. They are applied to that
        value alone, unless noise follows that may change the order.
        """
        begin = tuple(before for before, _ in pads_of(self.kernel, self.padding))
        _, height, width, _ = self.shape
        values = corners(self.x, self.kernel, begin, (height // 2, width // 2))
        if self.noise is None or self.drawn is None:
            return self._finished(largest(values))
        if isinstance(self.noise, KeepOrDrop):
            return self._largest_kept(values, self.noise, self.drawn)
        bias = jnp.zeros((1, 1, 1, 1), self.dtype) if self.bias is None else self.bias
        return largest_noisy(self._factors, self.rectifies, values, bias, self.drawn)

    def _largest_kept(
        self, values: list[Images], noise: KeepOrDrop, drawn: Drawn
    ) -> Images:
        kept = noise.kept(drawn.seeds, drawn.rate, self.shape)
        bias = jnp.zeros((1, 1, 1, 1), self.dtype) if self.bias is None else self.bias
        # What is dropped becomes 0. With ReLU that is never the largest value.
        floor = jnp.full_like(bias, -jnp.inf) if self.rectifies else -bias
        best = largest_kept(values, packed(at_corners(kept, self.shape)), floor)
        return self._finished(best, noise.scale(drawn.rate))

    def _finished(self, y: Images, factor: Float[Array, ""] | None = None) -> Images:
        """Apply the bias, a positive factor and ReLU to pooled values."""
        y = y if self.bias is None else y + self.bias
        # The backward pass would otherwise keep the factor of each value.
        y = y if factor is None else remake(scale)(y, factor)
        return rectified(y) if self.rectifies else y

    def _factors(self, drawn: Drawn) -> list[Array]:
        assert self.noise is not None
        factor = self.noise(drawn.seeds, drawn.rate, self.shape, *drawn.given)
        return at_corners(factor, self.shape)


MaybeDeferred = Images | DeferredConvolution
