"""Augmentations of standardised images, on the device: functions of an example's key.

In such an image 0 is the mean of each channel.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dropout.grammar import Interval
from dropout.keys import named_key

Image = Float[Array, "h w c"]
Share = Float[Array, ""]
PadWidth = Annotated[int, Interval("[0, 4096]")]
Alpha = Annotated[float, Interval("(0, 1e6]")]


def pad_crop(key: Key[Array, ""], image: Image, *, padding: PadWidth = 4) -> Image:
    """Shift by up to `padding` pixels in each direction and fill up with zeros.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Raises:
        ValueError: a negative padding.
    """
    if padding < 0:
        raise ValueError(f"pad_crop(padding={padding}): expected 0 or more.")
    height, width, _ = image.shape
    rows, columns = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    down = jax.lax.dynamic_slice_in_dim(padded, rows, height, 0)
    return jax.lax.dynamic_slice_in_dim(down, columns, width, 1)


def flip(key: Key[Array, ""], image: Image) -> Image:
    """Mirror left and right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def mixup(
    key: Key[Array, ""], image: Image, partner: Image, *, alpha: Alpha = 0.2
) -> tuple[Image, Share]:
    """Mix two images, and their labels alike: s image + (1 - s) partner.

    s ~ Beta(alpha, alpha) for each example.
    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR.

    Raises:
        ValueError: `alpha` is not positive.
    """
    share = _beta("mixup", key, alpha)
    return share * image + (1 - share) * partner, share


def cutmix(
    key: Key[Array, ""], image: Image, partner: Image, *, alpha: Alpha = 1.0
) -> tuple[Image, Share]:
    """Put a box of the partner into the image; labels are shared by area.

    The box has the image's proportions and the area 1 - s, s ~ Beta(alpha, alpha), a
    uniform centre, and is cut off at the border.
    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong
        Classifiers with Localizable Features", ICCV.

    Raises:
        ValueError: `alpha` is not positive.
    """
    side = jnp.sqrt(1 - _beta("cutmix", named_key(key, "area"), alpha))
    centre = jax.random.uniform(named_key(key, "centre"), (2,))
    inside = [
        _interval(length, middle, side) for length, middle in zip(image.shape, centre)
    ]
    box = inside[0][:, None] & inside[1][None]
    share = 1 - box.mean(dtype=jnp.float32)
    return jnp.where(box[..., None], partner, image), share


def _beta(name: str, key: Key[Array, ""], alpha: float) -> Share:
    if not alpha > 0:
        raise ValueError(f"{name}(alpha={alpha}): expected more than 0.")
    return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def _interval(length: int, middle: Share, side: Share) -> Array:
    """Return which pixels lie in an interval of `side` times the length."""
    size = (length * side).astype(jnp.int32)
    first = (length * middle).astype(jnp.int32) - size // 2
    pixels = jnp.arange(length)
    return (pixels >= first) & (pixels < first + size)
