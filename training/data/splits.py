"""The splits of a data set, and how their images are standardised.

An example's id is its row in the split that it comes from; dropout's masks follow it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int, Int32, Num, UInt8

CHUNK = 1000  # Images that are decoded, or summed over, at a time.
SAMPLE = 10_000  # Images that stand for a streamed split in its mean and std.
GREY_VALUES = 255  # A standard deviation is at least one of so many grey values.

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

    def fetch(self, ids: ShapedIds) -> tuple[Array, Array]:
        """Return images and labels of `ids`, gathered on the device that holds them."""
        return _gather(self.images, self.labels, ids)

    def image_chunks(self) -> Iterator[np.ndarray]:
        """Yield all images, `CHUNK` at a time."""
        for start in range(0, self.size, CHUNK):
            yield np.asarray(self.images[start : start + CHUNK])


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class RecordSplit:
    """Examples that are decoded on the host whenever they are asked for.

    `records[i]` is a dictionary with a uint8 "image" and an integer "label" below
    `classes`; a pytree without leaves.
    """

    records: Any
    image_shape: tuple[int, ...]
    classes: int

    @property
    def size(self) -> int:
        """Return the number of examples."""
        return len(self.records)

    def shapes(self, count: int) -> BatchShapes:
        """Return the shapes and types of what `fetch` gives for a number of ids."""
        images = jax.ShapeDtypeStruct((count, *self.image_shape), np.uint8)
        return images, jax.ShapeDtypeStruct((count,), np.int32)

    def fetch(self, ids: ShapedIds) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and labels of `ids`, decoded now.

        Raises:
            ValueError: a record is damaged, or holds something else.
        """
        rows = np.ravel(ids).tolist()
        try:
            found = self.records.__getitems__(rows)
            images = np.stack([each["image"] for each in found])
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

    def image_chunks(self) -> Iterator[np.ndarray]:
        """Yield `SAMPLE` evenly spaced images, or all, `CHUNK` at a time."""
        count = min(self.size, SAMPLE)
        ids = np.arange(count) * self.size // count
        for start in range(0, count, CHUNK):
            yield self.fetch(ids[start : start + CHUNK].astype(np.int32))[0]


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


def statistics(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, float32.

    uint8 images count in units of [0, 1] (255 is 1), others as they are. Summed in
    float64, a chunk at a time, over the values that are finite. `std` is at least one
    grey value, so that a channel that hardly varies does not turn a pixel of another
    image into thousands of standard deviations: 1/255 of uint8 images, else 1/255 of
    the channel's range, or of its mean where it never varies, or of 1.
    """
    whole = split.shapes(1)[0].dtype == np.uint8
    sums_of = _sums_of_bytes if whole else _sums_of_numbers
    (count, total, squares), grey = sums_of(split.image_chunks())
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    unit = GREY_VALUES if whole else 1
    std = np.maximum(std, grey)
    return (mean / unit).astype(np.float32), (std / unit).astype(np.float32)


def _sums_of_bytes(chunks: Iterator[np.ndarray]) -> tuple[tuple, float]:
    """The number of values of each channel, their sum and that of their squares, and 1.

    From a histogram, which takes an eighth of the time of sums in float64, and gives
    the same: all are whole numbers below 2**53.
    """
    counts = np.sum([_histogram(images) for images in chunks], axis=0)
    values = np.arange(GREY_VALUES + 1.0)
    return (counts.sum(1), counts @ values, counts @ values**2), 1.0


def _histogram(images: UInt8[np.ndarray, "n h w c"]) -> Int[np.ndarray, "c 256"]:
    channels = images.reshape(-1, images.shape[-1]).T
    return np.stack([np.bincount(c, minlength=GREY_VALUES + 1) for c in channels])


def _sums_of_numbers(
    chunks: Iterator[np.ndarray],
) -> tuple[tuple, Float64[np.ndarray, " channels"]]:
    """The same three of the finite values, and 1/255 of each channel's range."""
    sums = np.zeros((3, 1))
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    for images in chunks:
        pixels = images.reshape(-1, images.shape[-1]).astype(np.float64)
        known = np.isfinite(pixels)
        low = np.minimum(low, pixels.min(0, where=known, initial=np.inf))
        high = np.maximum(high, pixels.max(0, where=known, initial=-np.inf))
        pixels[~known] = 0
        squares = np.einsum("nc,nc->c", pixels, pixels)
        sums = sums + np.stack((known.sum(0), np.einsum("nc->c", pixels), squares))
    return tuple(sums), _range(low, high) / GREY_VALUES


def _range(
    low: Float64[np.ndarray, " channels"], high: Float64[np.ndarray, " channels"]
) -> Float64[np.ndarray, " channels"]:
    """How far a channel's values reach: to each other, else from 0, else 1."""
    apart, size = high - low, np.abs(high)
    return np.select([apart > 0, size > 0], [apart, size], 1.0)


def standardise(
    images: Num[Array, "n height width channels"],
    mean: Float32[Array, " channels"],
    std: Float32[Array, " channels"],
) -> Float32[Array, "n height width channels"]:
    """Return (images - mean) / std, after uint8 images are scaled to [0, 1]."""
    scaled = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        scaled = scaled / 255
    return (scaled - mean[None, None, None]) / std[None, None, None]
