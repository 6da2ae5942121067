"""RandAugment: a few random operations on the bytes of an image, by Pillow on the host.

To add an operation, write a function of an image, a strength and a sign, and add it to
`OPERATIONS`. The strength is from 0 to 1, and the sign is 1 or -1.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from dropout.grammar import Interval
from training.data.crops import Picture, Words, generator

LARGEST = 10  # The magnitude at which the strength of an operation is 1.
FILL = 128  # The gray of pixels from outside the image.
LEAST_FACTOR = 0.1  # No colour, contrast, brightness or sharpness falls below it.

Count = Annotated[int, Interval("[1, 16]")]
Magnitude = Annotated[float, Interval("[0, 10]")]
Deviation = Annotated[float, Interval("[0, 10]")]
Probability = Annotated[float, Interval("[0, 1]")]
Operation = Callable[[Picture, float, int], Picture]


def randaugment(
    words: Words,
    image: Picture,
    *,
    count: Count = 2,
    magnitude: Magnitude = 9.0,
    magnitude_std: Deviation = 0.0,
    probability: Probability = 0.5,
) -> Picture:
    """Draw `count` operations, and apply each with a probability and a random sign.

    Operations are drawn with replacement. The strength of each is its magnitude over
    10; magnitudes are drawn from a normal distribution about `magnitude` and clipped to
    [0, 10]. The operations, their ranges and the defaults are those of timm's
    `rand-m9-inc1`, where "inc" says that 0 is the weakest magnitude. timm also draws
    the interpolation, which is bilinear here. The paper applies every operation that is
    drawn, and has "identity" among them.
    Source: Cubuk et al. 2020, "RandAugment: Practical Automated Data Augmentation with
        a Reduced Search Space", NeurIPS; timm, `timm/data/auto_augment.py`.

    Args:
        words: two words from the example's key, from which everything is drawn.
        image: an image with one channel or three.
        count: the number of operations.
        magnitude: the mean of their magnitudes.
        magnitude_std: the standard deviation of their magnitudes.
        probability: the probability that an operation that is drawn is applied.
    """
    random = generator(words, "randaugment")
    numbers, normal = random.random((count, 3)), random.standard_normal(count)
    magnitudes = np.clip(magnitude + magnitude_std * normal, 0, LARGEST)
    names = list(OPERATIONS)
    for (which, applied, side), drawn in zip(numbers, magnitudes):
        if applied < probability:
            operation = OPERATIONS[names[int(which * len(names))]]
            image = operation(image, float(drawn) / LARGEST, 1 if side < 0.5 else -1)
    return image


def autocontrast(image: Picture, strength: float, sign: int) -> Picture:
    """Stretch the values of each channel to 0..255."""
    return ImageOps.autocontrast(image)


def equalize(image: Picture, strength: float, sign: int) -> Picture:
    """Make the values of each channel as evenly distributed as possible."""
    return ImageOps.equalize(image)


def invert(image: Picture, strength: float, sign: int) -> Picture:
    """Replace each value v by 255 - v."""
    return ImageOps.invert(image)


def rotate(image: Picture, strength: float, sign: int) -> Picture:
    """Rotate by up to 30 degrees about the centre, counterclockwise if positive."""
    return image.rotate(
        sign * 30 * strength, Image.Resampling.BILINEAR, fillcolor=_fill(image)
    )


def posterize(image: Picture, strength: float, sign: int) -> Picture:
    """Keep the first 4 bits of each value, or fewer, but at least one."""
    # At strength 1 timm keeps none, and the image is black.
    return ImageOps.posterize(image, max(1, 4 - int(4 * strength)))


def solarize(image: Picture, strength: float, sign: int) -> Picture:
    """Invert values that reach a threshold, which falls from 256 to 0."""
    return ImageOps.solarize(image, 256 - int(256 * strength))


def solarize_add(image: Picture, strength: float, sign: int) -> Picture:
    """Add up to 110 to each value below 128; the sum is at most 255."""
    values = np.arange(256)
    added = np.minimum(values + int(110 * strength), 255)
    table = np.where(values < 128, added, values).tolist()
    return image.point(table * len(image.getbands()))


def color(image: Picture, strength: float, sign: int) -> Picture:
    """Change the distance of each pixel from its gray by up to 90 %."""
    return ImageEnhance.Color(image).enhance(_factor(strength, sign))


def contrast(image: Picture, strength: float, sign: int) -> Picture:
    """Change the distance of each value from the mean gray by up to 90 %."""
    return ImageEnhance.Contrast(image).enhance(_factor(strength, sign))


def brightness(image: Picture, strength: float, sign: int) -> Picture:
    """Change each value by up to 90 % of itself."""
    return ImageEnhance.Brightness(image).enhance(_factor(strength, sign))


def sharpness(image: Picture, strength: float, sign: int) -> Picture:
    """Change the distance of each value from a smoothed image by up to 90 %."""
    return ImageEnhance.Sharpness(image).enhance(_factor(strength, sign))


def shear_x(image: Picture, strength: float, sign: int) -> Picture:
    """Shift each row in proportion to its number, by up to 0.3 pixels per row."""
    return _affine(image, (1.0, sign * 0.3 * strength, 0.0, 0.0, 1.0, 0.0))


def shear_y(image: Picture, strength: float, sign: int) -> Picture:
    """Shift each column in proportion to its number, by up to 0.3 pixels per column."""
    return _affine(image, (1.0, 0.0, 0.0, sign * 0.3 * strength, 1.0, 0.0))


def translate_x(image: Picture, strength: float, sign: int) -> Picture:
    """Shift by up to 45 % of the width, to the left if positive."""
    pixels = sign * 0.45 * strength * image.width
    return _affine(image, (1.0, 0.0, pixels, 0.0, 1.0, 0.0))


def translate_y(image: Picture, strength: float, sign: int) -> Picture:
    """Shift by up to 45 % of the height, upwards if positive."""
    pixels = sign * 0.45 * strength * image.height
    return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, pixels))


# Which operations an example's words draw depends on this order.
OPERATIONS: dict[str, Operation] = {
    function.__name__: function
    for function in (
        autocontrast, equalize, invert, rotate, posterize, solarize, solarize_add,
        color, contrast, brightness, sharpness, shear_x, shear_y, translate_x,
        translate_y,
    )
}  # fmt: skip


def _factor(strength: float, sign: int) -> float:
    return max(LEAST_FACTOR, 1 + sign * 0.9 * strength)


def _fill(image: Picture) -> tuple[int, ...]:
    return (FILL,) * len(image.getbands())


def _affine(image: Picture, source: tuple[float, ...]) -> Picture:
    """Return the image whose pixel (x, y) is read at (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size, Image.Transform.AFFINE, source, Image.Resampling.BILINEAR,
        fillcolor=_fill(image),
    )  # fmt: skip
