"""Stored images of any size as arrays of one size: decoding, and crops on the host."""

import io
import math
import zlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Num, UInt32
from PIL import Image

from dropout.grammar import Interval

ATTEMPTS = 10
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # By the number of channels.

Size = Annotated[int, Interval("[1, 4096]")]
Share = Annotated[float, Interval("(0, 1]")]
Range = tuple[float, ...]
Words = UInt32[np.ndarray, "2"]
Stored = bytes | Num[np.ndarray, "h w c"]
Box = tuple[int, int, int, int]  # Left, upper, right, lower, in pixels.
Picture = Image.Image
Distortion = Callable[[Words, Picture], Picture]


class ResizedCrop(NamedTuple):
    """Where an image is cropped before it is resized to a square.

    Attributes:
        size: height and width of the result.
        scale: the smallest and the largest share of the image's area in training.
        ratio: the smallest and the largest width over height in training.
        test_share: the share of the shorter side that the centre crop at test has.
    """

    size: int
    scale: Range
    ratio: Range
    test_share: float


def resized_crop(
    *,
    size: Size = 224,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    test_share: Share = 0.875,
) -> ResizedCrop:
    """Return a crop whose area and aspect ratio are drawn from each example's key.

    At test the crop is the central square with `test_share` of the shorter side.
    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", CVPR, section 6.

    Raises:
        ValueError: an empty range, or one that reaches beyond what is possible.
    """
    for name, found, highest in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
        if len(found) != 2 or not 0 < found[0] <= found[1] <= highest:
            raise ValueError(
                f"resized_crop({name}={found}): expected (low, high) with 0 < low <= "
                f"high{' <= 1' if highest == 1 else ''}."
            )
    return ResizedCrop(size, scale, ratio, test_share)


def decode(
    stored: Stored,
    channels: int,
    crop: ResizedCrop | None,
    words: Words | None,
    distortions: tuple[Distortion, ...] = (),
) -> np.ndarray:
    """Return an image as an array (height, width, channels).

    Args:
        stored: an encoded image, or one that is an array already.
        channels: their number in the result.
        crop: how the image is brought to one size; None leaves its size as it is.
        words: two words from the example's key, which draw the crop and decide what
            distortions do; without them the crop is the central one, and nothing is
            distorted.
        distortions: what changes the cropped image, one after the other.
    """
    distorts = words is not None and bool(distortions)
    if crop is None and not distorts and isinstance(stored, np.ndarray):
        return stored
    image = _opened(stored).convert(MODES[channels])
    if crop is not None:
        image = _cropped(image, crop, words)
    if words is not None:
        for distort in distortions:
            image = distort(words, image)
    return np.asarray(image).reshape(image.height, image.width, channels)


def central_box(extent: tuple[int, int], crop: ResizedCrop) -> Box:
    """Return the central square of an image of the given width and height."""
    side = max(1, round(crop.test_share * min(extent)))
    return _centred(extent, side, side)


def drawn_box(extent: tuple[int, int], crop: ResizedCrop, words: Words) -> Box:
    """Return the box that two random words draw in an image of (width, height).

    The area is uniform in `scale`, the logarithm of the aspect ratio uniform in that of
    `ratio`, and the position uniform. A box that does not fit is drawn again, up to ten
    times; after that it is the largest central box with an allowed aspect ratio.
    """
    width, height = extent
    for draws in generator(words).random((ATTEMPTS, 4)):
        area = width * height * _between(crop.scale, draws[0])
        low, high = map(math.log, crop.ratio)
        ratio = math.exp(_between((low, high), draws[1]))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left = math.floor(draws[2] * (width - wide + 1))
            upper = math.floor(draws[3] * (height - tall + 1))
            return left, upper, left + wide, upper + tall
    ratio = min(max(width / height, crop.ratio[0]), crop.ratio[1])
    wide, tall = min(width, height * ratio), min(height, width / ratio)
    return _centred(extent, max(1, round(wide)), max(1, round(tall)))


def generator(words: Words, name: str = "") -> np.random.Generator:
    """Return a generator of random numbers, the same on every machine.

    Args:
        words: two words from the example's key.
        name: the name of a distortion, so that each distortion draws its own numbers;
            empty for the crop.
    """
    key = zlib.crc32(name.encode()) << 64 | int(words[0]) << 32 | int(words[1])
    return np.random.Generator(np.random.Philox(key=key))


def _centred(extent: tuple[int, int], wide: int, tall: int) -> Box:
    left, upper = (extent[0] - wide) // 2, (extent[1] - tall) // 2
    return left, upper, left + wide, upper + tall


def _cropped(image: Picture, crop: ResizedCrop, words: Words | None) -> Picture:
    box = central_box(image.size, crop)
    if words is not None:
        box = drawn_box(image.size, crop, words)
    # `resize` with a box would mix in pixels from outside of it.
    shape = (crop.size, crop.size)
    return image.crop(box).resize(shape, Image.Resampling.BILINEAR)


def _between(ends: Range, share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _opened(stored: Stored) -> Picture:
    if isinstance(stored, np.ndarray):
        return Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored)
    return Image.open(io.BytesIO(stored))
