"""The splits of a data set: examples as arrays, or read when they are asked for.

An example's id is its row in the split that it comes from; dropout's masks follow it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32, Num, UInt32

from training.data.crops import Distortion, ResizedCrop, decode

CHUNK = 1000  # Images that are decoded, or summed over, at a time.
CHUNK_PIXELS = 2**23  # Their values together: sums need eight bytes for each of them.
SAMPLE = 2000  # Images that stand for a streamed split in its mean and std.

ShapedIds = Int32[Array, "*ids"] | Int32[np.ndarray, "*ids"]
BatchShapes = tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]  # Of images and labels.
PerChannel = Float32[Array, " channels"] | Float32[np.ndarray, " channels"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ArraySplit:
    """Examples kept as arrays; a pytree, which `jax.device_put` accepts."""

    images: Num[Array | np.ndarray, "n height width channels"]
    labels: Int32[Array | np.ndarray, "n *positions"]

    @property
    def size(self) -> int:
        """Return the number of examples."""
        return self.labels.shape[0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return height, width and channels."""
        return self.images.shape[1:]

    def shapes(self, count: int) -> BatchShapes:
        """Return the shapes and types of what `fetch` gives for a number of ids."""
        return _shape_of(self.images, count), _shape_of(self.labels, count)

    def fetch(
        self, ids: ShapedIds
    ) -> tuple[Array, Array] | tuple[np.ndarray, np.ndarray]:
        """Return images and labels of `ids`, gathered where they are."""
        if isinstance(self.images, np.ndarray):
            rows = np.asarray(ids)
            return self.images[rows], np.asarray(self.labels)[rows]
        return _gather(self.images, self.labels, ids)

    def image_chunks(self) -> Iterator[np.ndarray]:
        """Yield all images, a chunk at a time."""
        chunk = chunk_of(self.image_shape)
        for start in range(0, self.size, chunk):
            yield np.asarray(self.images[start : start + chunk])


@runtime_checkable
class Records(Protocol):
    """Examples in files; `records[[3, 5]]` is written `__getitems__`, as others do.

    Each is a dictionary with an "image", encoded or an array, and an integer "label".
    """

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitems__(self, rows: Sequence[int], /) -> list[dict[str, Any]]:
        """Return the examples of some rows."""
        ...


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class RecordSplit:
    """Examples that are read and decoded on the host whenever they are asked for.

    A pytree without leaves. Every label is below `classes`. Images are `dtype`, of
    `image_shape`; where those of the files have other sizes, `crop` makes them so.
    In training, `distortions` change them on the host.
    """

    records: Records
    image_shape: tuple[int, ...]
    classes: int
    dtype: type = np.uint8
    crop: ResizedCrop | None = None
    distortions: tuple[Distortion, ...] = ()

    @property
    def size(self) -> int:
        """Return the number of examples."""
        return len(self.records)

    def shapes(self, count: int) -> BatchShapes:
        """Return the shapes and types of what `fetch` gives for a number of ids."""
        images = jax.ShapeDtypeStruct((count, *self.image_shape), self.dtype)
        return images, jax.ShapeDtypeStruct((count,), np.int32)

    def fetch(
        self, ids: ShapedIds, words: UInt32[np.ndarray, "*ids 2"] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and labels of `ids`, decoded now.

        Args:
            ids: rows of the split.
            words: what draws the crop of each image and decides its distortions, as in
                training; without them each is read as at test.

        Raises:
            ValueError: a record is damaged, or holds something else.
        """
        rows = np.ravel(ids).tolist()
        try:
            found = self.records.__getitems__(rows)
            draws = [None] * len(rows) if words is None else words.reshape(-1, 2)
            images = np.stack(
                [self._decoded(each["image"], draw) for each, draw in zip(found, draws)]
            )
            labels = np.array([each["label"] for each in found], np.int32)
            whole = images.shape[1:] == self.image_shape
            if not whole or labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(
                    f"images of {images.shape[1:]}, labels {labels.min()} to "
                    f"{labels.max()}"
                )
        except Exception as error:  # Of array_record, protobuf, the images' decoder.
            reason = " ".join(str(error).split("\n")[0].split())[:200]
            raise ValueError(
                f"cannot decode examples {rows[0]} to {rows[-1]}: {reason}; expected "
                f"images of {self.image_shape}, labels 0 to {self.classes - 1}."
            ) from error
        return images.reshape(*ids.shape, *self.image_shape), labels.reshape(ids.shape)

    def labels_of(self, ids: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """Return the labels of `ids`; no image is decoded."""
        parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        found = [self.records.__getitems__(part.tolist()) for part in parts]
        return np.array([each["label"] for part in found for each in part], np.int32)

    def image_chunks(self) -> Iterator[np.ndarray]:
        """Yield `SAMPLE` evenly spaced images, or all, a chunk at a time."""
        count, chunk = min(self.size, SAMPLE), chunk_of(self.image_shape)
        ids = np.arange(count) * self.size // count
        for start in range(0, count, chunk):
            yield self.fetch(ids[start : start + chunk].astype(np.int32))[0]

    def _decoded(self, stored: Any, words: Any) -> np.ndarray:
        channels = self.image_shape[-1]
        image = decode(stored, channels, self.crop, words, self.distortions)
        with np.errstate(over="ignore"):  # What float32 cannot hold is infinite.
            return image.astype(self.dtype, copy=False)


def chunk_of(image_shape: tuple[int, ...]) -> int:
    """Return how many images are decoded, or summed over, at a time."""
    return max(1, min(CHUNK, CHUNK_PIXELS // math.prod(image_shape)))


def _shape_of(array: Array | np.ndarray, count: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype)


Split = ArraySplit | RecordSplit


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DataSet:
    """A source's two splits with what standardises them; a pytree.

    `mean` and `std` are those of each channel over the whole source train split, in the
    units of `standardise`; of a streamed split over a fixed sample.
    """

    name: str = field(metadata={"static": True})
    classes: int = field(metadata={"static": True})
    train: Split
    test: Split
    mean: PerChannel
    std: PerChannel


@jax.jit
def _gather(images: Array, labels: Array, ids: Array) -> tuple[Array, Array]:
    return images[ids], labels[ids]
