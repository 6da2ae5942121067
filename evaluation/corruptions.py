"""Corruptions of test images at five severities, each a function of an example's key.

Each acts on one image with values in [0, 1], after Hendrycks & Dietterich 2019
("Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR). The strengths are our own, chosen for images of about 28 to 32 pixels: use them
to compare arms, not to compare with published numbers. An example has the same noise,
and moves in the same direction, at every severity. To add a corruption, write a
function and add a line with its strengths to `CORRUPTIONS`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from dropout.keys import example_keys, named_key
from training.data.augmentation import Image


class Corruption(NamedTuple):
    """A function `apply(key, image, strength) -> image`, and a strength per severity.

    The five strengths belong to severities 1 to 5.
    """

    apply: Callable[[Key[Array, ""], Image, float], Image]
    strengths: tuple[float, float, float, float, float]


def gaussian_noise(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Add normal noise whose standard deviation is the strength."""
    return image + strength * jax.random.normal(key, image.shape)


def shot_noise(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Add the noise of a photon count; full brightness is 1 / strength photons."""
    counts = jax.random.poisson(key, image / strength)
    return counts.astype(jnp.float32) * strength


def impulse_noise(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Set a random fraction of the values to 0 or 1; the strength is the fraction."""
    lot = jax.random.uniform(key, image.shape)
    salted = jnp.where(lot > 1 - strength / 2, 1.0, image)
    return jnp.where(lot < strength / 2, 0.0, salted)


def blur(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Smooth with a Gaussian whose standard deviation in pixels is the strength."""
    radius = int(np.ceil(3 * strength))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / strength) ** 2)
    for axis in (0, 1):
        image = _smooth(image, weights / weights.sum(), axis)
    return image


def rotation(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Rotate about the centre by the strength in degrees, in a random direction."""
    return rotate(image, _sign(key) * strength)


def translation(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Shift in a random direction; the strength is a fraction of the side."""
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    sides = jnp.asarray(image.shape[:2], jnp.float32)
    return warp(image, jnp.eye(2), strength * sides * _direction(angle))


def scale(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Scale about the centre by the strength; below 1, objects become smaller."""
    return warp(image, jnp.eye(2) / strength, jnp.zeros(2))


def shear(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Shift each row sideways by the strength times its height above the centre."""
    slant = jnp.asarray([[0.0, 0.0], [strength, 0.0]])
    return warp(image, jnp.eye(2) + _sign(key) * slant, jnp.zeros(2))


def brightness(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Add the strength to all values."""
    return image + strength


def contrast(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Multiply the distance to each channel's mean by the strength, a fraction."""
    mean = image.mean((0, 1), keepdims=True)
    return mean + strength * (image - mean)


def pixelate(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Reduce the resolution to a fraction, the strength, and repeat the pixels."""
    height, width, channels = image.shape
    small = (round(height * strength), round(width * strength), channels)
    coarse = jax.image.resize(image, small, "linear")
    return jax.image.resize(coarse, image.shape, "nearest")


def occlusion(key: Key[Array, ""], image: Image, strength: float) -> Image:
    """Cover a square inside the image with grey; the strength is its relative side."""
    inside = jnp.ones((), bool)
    for axis, part in enumerate(jax.random.uniform(key, (2,))):
        length = image.shape[axis]
        start = jnp.floor(part * (length - round(strength * length) + 1))
        index = jax.lax.broadcasted_iota(jnp.float32, image.shape, axis)
        inside &= (index >= start) & (index < start + round(strength * length))
    return jnp.where(inside, 0.5, image)


CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: Corruption(function, strengths)
    for function, strengths in (
        (gaussian_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
        (shot_noise, (1 / 60, 1 / 25, 1 / 12, 1 / 5, 1 / 3)),
        (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
        (blur, (0.5, 0.75, 1.0, 1.5, 2.0)),
        (rotation, (10.0, 20.0, 30.0, 45.0, 60.0)),
        (translation, (0.05, 0.1, 0.15, 0.2, 0.25)),
        (scale, (0.9, 0.8, 0.7, 0.6, 0.5)),
        (shear, (0.1, 0.2, 0.3, 0.45, 0.6)),
        (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
        (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
        (pixelate, (0.8, 0.65, 0.5, 0.4, 0.3)),
        (occlusion, (0.15, 0.25, 0.35, 0.45, 0.55)),
    )
}
SEVERITIES = (1, 2, 3, 4, 5)


@partial(jax.jit, static_argnums=(0, 1))
def corrupt(
    name: str,
    severity: int,
    key: Key[Array, ""],
    images: Num[Array, "n h w c"],
    examples: Int[Array, " n"],
    lowest: Float[Array, ""] | float = 0.0,
    highest: Float[Array, ""] | float = 1.0,
) -> Num[Array, "n h w c"]:
    """Return corrupted images of the same shape and dtype.

    Args:
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        key: each example's own key is derived from it, the name and the example's id.
        images: uint8 from 0 to 255, or float.
        examples: the ids of the examples.
        lowest: the value of black in float images.
        highest: the value of white in float images.
    """
    corruption = CORRUPTIONS[name]
    low, high = (0.0, 255.0) if images.dtype == jnp.uint8 else (lowest, highest)
    values = (images.astype(jnp.float32) - low) / (high - low)
    strength = corruption.strengths[severity - 1]
    keys = example_keys(named_key(key, name), examples)
    apply = jax.vmap(lambda key, image: corruption.apply(key, image, strength))
    corrupted = jnp.clip(apply(keys, values), 0, 1) * (high - low) + low
    if images.dtype == jnp.uint8:
        corrupted = jnp.round(corrupted)
    return corrupted.astype(images.dtype)


def rotate(image: Image, degrees: Float[Array, ""] | float) -> Image:
    """Rotate an image counter-clockwise about its centre."""
    sine, cosine = _direction(jnp.deg2rad(degrees))
    # The matrix maps a pixel to the position that its value comes from; rows run down.
    turn = jnp.asarray([[cosine, sine], [-sine, cosine]])
    return warp(image, turn, jnp.zeros(2))


def warp(image: Image, matrix: Float[Array, "2 2"], shift: Float[Array, " 2"]) -> Image:
    """Transform an image affinely: pixel p gets the value at `matrix @ p - shift`.

    Positions are (row, column) from the centre. The interpolation is bilinear, and
    beyond the edge the values of the edge are repeated.
    """
    height, width, channels = image.shape
    centre = np.asarray([height - 1, width - 1], np.float32).reshape(2, 1, 1) / 2
    pixels = np.indices((height, width), np.float32) - centre
    source = jnp.einsum("ij,jhw->ihw", matrix, pixels) - shift[:, None, None] + centre
    interpolate = jax.scipy.ndimage.map_coordinates
    planes = [
        interpolate(image[..., channel], list(source), 1, "nearest")
        for channel in range(channels)
    ]
    return jnp.stack(planes, -1)


def _smooth(image: Image, weights: Float[np.ndarray, " taps"], axis: int) -> Image:
    radius = len(weights) // 2
    borders = [(radius, radius) if side == axis else (0, 0) for side in range(3)]
    padded = jnp.pad(image, borders, "edge")
    length = image.shape[axis]
    parts = (
        np.float32(weight) * jax.lax.slice_in_dim(padded, tap, tap + length, axis=axis)
        for tap, weight in enumerate(weights)
    )
    return sum(parts, jnp.zeros_like(image))


def _sign(key: Key[Array, ""]) -> Float[Array, ""]:
    return jax.random.rademacher(key, (), jnp.float32)


def _direction(angle: Float[Array, ""] | float) -> Float[Array, " 2"]:
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)])
