"""Images to predict: in memory or, if they do not fit, read again in each pass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Int32, Num

from training.config import Config
from training.data.order import evaluation_batches
from training.data.reading import Loader, evaluation_loader, fetch_all, fetched
from training.data.splits import RecordSplit, Split

StoredImages = Num[np.ndarray, "n height width channels"]


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """The images of some examples of a split, read whenever they are asked for."""

    split: RecordSplit
    ids: Int32[np.ndarray, " n"]
    loader: Loader

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the pixels."""
        return np.dtype(self.split.dtype)

    def __getitem__(self, rows: int | np.integer | slice) -> np.ndarray:
        """Return one image, or the images of a slice."""
        ids = np.atleast_1d(self.ids[rows])
        images, _ = fetch_all(self.split, ids, self.loader)
        return images if isinstance(rows, slice) else images[0]


Images = StoredImages | StreamedImages


def images_and_labels(
    split: Split, ids: Int32[np.ndarray, " n"], config: Config
) -> tuple[Images, Int32[np.ndarray, " n"]]:
    """Return images and labels of a split; the images may be streamed.

    Images that take more than `--in_memory_bytes` together are streamed. A split that
    is in memory already gives arrays, whatever their size.
    """
    loader = evaluation_loader(config)
    if isinstance(split, RecordSplit):
        each = math.prod(split.image_shape) * np.dtype(split.dtype).itemsize
        if len(ids) * each > config.in_memory_bytes:
            return StreamedImages(split, ids, loader), split.labels_of(ids)
    return fetch_all(split, ids, loader)


def chunks_of(
    images: Num[Array | np.ndarray, "n height width channels"] | StreamedImages,
    size: int,
) -> Iterator[np.ndarray]:
    """Yield `size` images at a time, then the rest; streamed images are read ahead."""
    if not isinstance(images, StreamedImages):
        for start in range(0, len(images), size):
            yield np.asarray(images[start : start + size])
        return
    batches, weights = evaluation_batches(images.ids, min(size, len(images)))
    found = fetched(images.split, batches, images.loader)
    for (read, _), counted in zip(found, weights, strict=True):
        yield read[counted > 0]
