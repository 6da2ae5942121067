"""The images of a folder: PNG and JPEG files in the shape of a run's images."""

import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels.
# Pillow cuts 16-bit and float pixels off at 255 when it converts them.
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def image_names(folder: str, most: int = 0) -> list[str]:
    """Return the first `most` (0: all) images of a folder and of the folders in it.

    The names are paths within the folder, in the order of the alphabet.

    Raises:
        ValueError: there is no image.
    """
    found = sorted(
        os.path.relpath(Path(directory, name), folder)
        for directory, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not found:
        raise ValueError(f"{folder} has no file that ends in {', '.join(SUFFIXES)}.")
    return found[: most or None]


def read_images(
    folder: str, names: list[str], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "n height width channels"]:
    """Return images in a height, width and number of channels.

    Each is turned as its EXIF data say, converted (an image in colour to its luma where
    one channel is asked for) and resized with linear interpolation.

    Raises:
        ValueError: a file that is damaged or has more than 8 bits per channel, or a
            number of channels that no picture has.
    """
    height, width, channels = shape
    if channels not in MODES:
        raise ValueError(
            f"{folder}: the run's images have {channels} channels; expected one of "
            f"{', '.join(map(str, MODES))} for pictures."
        )
    size = (width, height)
    images = [_read_image(Path(folder, name), MODES[channels], size) for name in names]
    return np.stack(images).reshape(-1, *shape)


def _read_image(path: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if picture.mode not in EIGHT_BITS:
                raise ValueError(f"pixels of type {picture.mode}")
            upright = ImageOps.exif_transpose(picture).convert(mode)
            return np.asarray(upright.resize(size, Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError, Warning) as error:
        said = type(error) is not UnidentifiedImageError
        raise ValueError(
            f"cannot read {path}{f' ({error})' if said else ''}; expected a PNG or "
            "JPEG file with 8 bits per channel."
        ) from None
