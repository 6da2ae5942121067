"""Color jitter: random brightness, contrast, saturation and hue, on the host."""

from typing import Annotated

from PIL import Image, ImageEnhance

from dropout.grammar import Interval
from training.data.crops import Picture, Words, generator

Reach = Annotated[float, Interval("[0, 1]")]
Turn = Annotated[float, Interval("[0, 0.5]")]


def color_jitter(
    words: Words,
    image: Picture,
    *,
    brightness: Reach = 0.4,
    contrast: Reach = 0.4,
    saturation: Reach = 0.4,
    hue: Turn = 0.1,
) -> Picture:
    """Change brightness, contrast, saturation and hue, in a random order.

    The factors of the first three are uniform in [1 - reach, 1 + reach]; hues turn by a
    uniform share in [-hue, hue] of the circle. The hue of a gray image is left alone.
    This follows `ColorJitter` of torchvision on Pillow's images; the defaults are those
    of MoCo v2 (Chen et al. 2020, "Improved Baselines with Momentum Contrastive
    Learning"), which applies it to four images in five; here it applies to all.

    Args:
        words: two words from the example's key, from which everything is drawn.
        image: an image with one channel or three.
        brightness: how far the factor of the brightness reaches from 1.
        contrast: how far the factor of the contrast reaches from 1.
        saturation: how far the factor of the saturation reaches from 1.
        hue: the largest turn, as a share of the circle.
    """
    random = generator(words, "color_jitter")
    brighter, sharper, fuller, turned = random.uniform(-1, 1, 4)
    steps = (
        lambda image: ImageEnhance.Brightness(image).enhance(1 + brightness * brighter),
        lambda image: ImageEnhance.Contrast(image).enhance(1 + contrast * sharper),
        lambda image: ImageEnhance.Color(image).enhance(1 + saturation * fuller),
        lambda image: turn_hue(image, hue * turned),
    )
    for step in random.permutation(len(steps)):
        image = steps[step](image)
    return image


def turn_hue(image: Picture, turn: float) -> Picture:
    """Turn the hue of each pixel by a share of the circle, in steps of 1/256."""
    steps = round(256 * turn) % 256
    if image.mode == "L" or not steps:
        return image
    hue, *others = image.convert("HSV").split()
    turned = hue.point([(value + steps) % 256 for value in range(256)])
    return Image.merge("HSV", (turned, *others)).convert("RGB")
