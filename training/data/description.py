"""How a data set is read, in a few lines: what a user checks before training."""

from pathlib import Path

import numpy as np

from training.data.npz import shortened
from training.data.reading import Loader
from training.data.splits import ArraySplit, DataSet, RecordSplit


def data_lines(loaded: DataSet) -> list[str]:
    """Return how the images are read, the examples of each class, and what is odd."""
    height, width, channels = loaded.train.image_shape
    name, plural = Path(loaded.name).name, "s" if channels > 1 else ""
    lines = [
        f"{name}: {height}x{width} images of {channels} channel{plural} "
        f"(height x width), "
        f"{loaded.classes:,} classes, {loaded.train.size:,} examples to "
        f"train and {loaded.test.size:,} to test"
    ]
    if not isinstance(loaded.train, ArraySplit):  # Labels are decoded with the images.
        return lines
    counts = _counts(loaded.train, loaded.classes)
    each = "characters" if np.ndim(loaded.train.labels) > 1 else "training examples"
    few, many = counts.min(), counts.max()
    lines.append(f"each class has {few:,} to {many:,} {each}")
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        lines.append(
            f"warning: {missing.size:,} of {loaded.classes:,} classes have no training "
            f"example: {shortened(missing)}; labels are expected to count from 0"
        )
    return lines


def reading_line(loader: Loader, images: int, split: RecordSplit) -> str:
    """Return how many images, and bytes of them, a step takes from a streamed split."""
    threads = f"{loader.threads} thread{'s' if loader.threads > 1 else ''}"
    if loader.processes:
        threads = f"{loader.processes} processes of {threads}"
    read, _ = split.shapes(images)
    size = read.size * read.dtype.itemsize / 2**20
    return (
        f"streamed by {threads}: a step takes {images:,} images, {size:,.1f} MiB "
        f"decoded, so that 10 steps a second need {10 * size:,.0f} MiB/s"
    )


def _counts(split: ArraySplit, classes: int) -> np.ndarray:
    return np.bincount(np.ravel(split.labels), minlength=classes)
