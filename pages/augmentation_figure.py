"""The figure of `docs/guides/data.md`: what distortions make of a photograph."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from pages.figures import save
from training.data.color_jitter import color_jitter
from training.data.crops import decode, resized_crop
from training.data.randaugment import OPERATIONS, randaugment

COLUMNS, SIZE = 8, 88  # The cells in a row, and the side of a cell in pixels.
STRENGTH = 0.9  # The strength at magnitude 9.
Photograph = UInt8[np.ndarray, "h w 3"]


def plot_augmentations(path: Path) -> None:
    """Plot each operation at magnitude 9, and images as training reads them."""
    cells = [*operation_cells(), *drawn_cells()]
    figure = Figure(figsize=(9.2, 5.1), layout="constrained")
    axes = figure.subplots(len(cells) // COLUMNS, COLUMNS).flat
    for axis, (title, image) in zip(axes, cells, strict=True):
        axis.imshow(image)
        axis.set_title(title, size=9)
        axis.set_axis_off()
    save(figure, path)


def operation_cells() -> Iterator[tuple[str, Photograph]]:
    """Yield the photograph, and what each operation of RandAugment makes of it."""
    whole = decode(photograph(), 3, resized_crop(size=SIZE), None)
    yield "original", whole
    for name, operation in OPERATIONS.items():
        yield name, np.asarray(operation(Image.fromarray(whole), STRENGTH, 1))


def drawn_cells() -> Iterator[tuple[str, Photograph]]:
    """Yield random crops, one row for each distortion."""
    crop = resized_crop(size=SIZE)
    words = np.random.default_rng(0).integers(0, 2**32, (COLUMNS, 2), np.uint32)
    for distortion in (randaugment, color_jitter):
        for each in words:
            image = decode(photograph(), 3, crop, each, (distortion,))
            yield distortion.__name__, image


def photograph() -> Photograph:
    """Return the photograph of a temple that scikit-learn ships."""
    return np.asarray(load_sample_image("china.jpg"))
