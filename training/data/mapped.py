"""Arrays of an .npz file that stay on the disk, and arrays as examples to stream."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.data.crops import MODES, Distortion, ResizedCrop
from training.data.npz import ARRAYS, array_split, check_same_shape
from training.data.splits import ArraySplit, RecordSplit, Split

# A local header of a zip archive ends with the lengths of a name and of extra fields.
HEADER_BYTES, LENGTHS_AT = 30, 26
DISTORTED = (1, 3)  # Numbers of channels: Pillow equalizes no others.


class Rows(NamedTuple):
    """The rows of two arrays as examples; floating-point images become float32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def __getitems__(self, rows: Sequence[int], /) -> list[dict[str, Any]]:
        """Return image and label of the examples in some rows."""
        return [{"image": self.images[row], "label": self.labels[row]} for row in rows]


def decoded_bytes(path: str | Path) -> int:
    """Return the bytes of an .npz file's arrays, or 0 if it cannot be read as one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(each.file_size for each in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


def map_npz(path: str | Path) -> tuple[ArraySplit, ArraySplit]:
    """Return the splits of an .npz file like `read_npz`, but leave images on the disk.

    Raises:
        ValueError: the file is compressed, lacks an array, or holds something else.
    """
    try:
        arrays = [_mapped(path, f"{name}.npy") for name in ARRAYS]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"cannot map {str(path)!r}: {str(error.args[0])}; expected the arrays "
            f"{', '.join(ARRAYS)} as numpy.savez writes them, or a larger "
            "--in_memory_bytes."
        ) from error
    train = array_split(f"{path}: train", *arrays[:2])
    test = array_split(f"{path}: test", *arrays[2:])
    check_same_shape(path, train, test)
    return train, test


def streamed(
    name: str, split: ArraySplit, classes: int, crop: ResizedCrop | None
) -> RecordSplit:
    """Return a split whose examples are read when they are asked for.

    Raises:
        ValueError: images that a crop cannot act on.
    """
    images, labels = np.asanyarray(split.images), np.asarray(split.labels)
    shape = split.image_shape
    if crop is not None:
        if images.dtype != np.uint8 or shape[-1] not in MODES:
            raise ValueError(
                f"{name} has {images.dtype} images of {shape[-1]} channels; "
                "resized_crop expects uint8 with "
                f"{', '.join(map(str, MODES))} channels."
            )
        shape = (crop.size, crop.size, shape[-1])
    kind = np.uint8 if images.dtype == np.uint8 else np.float32
    return RecordSplit(Rows(images, labels), shape, classes, kind, crop)


def distorted(
    name: str, split: Split, classes: int, distortions: tuple[Distortion, ...]
) -> RecordSplit:
    """Return a split whose images are distorted on the host when training reads them.

    Raises:
        ValueError: images that distortions cannot act on.
    """
    if split.shapes(1)[1].shape[1:]:
        raise ValueError("--augment acts on images, and --dataset is text.")
    if isinstance(split, ArraySplit):
        split = streamed(name, split, classes, None)
    channels = split.image_shape[-1]
    if split.dtype != np.uint8 or channels not in DISTORTED:
        raise ValueError(
            f"--augment: {name} has {np.dtype(split.dtype)} images of {channels} "
            "channels; randaugment and color_jitter expect uint8 with "
            f"{' or '.join(map(str, DISTORTED))} channels."
        )
    return replace(split, distortions=distortions)


def _mapped(path: str | Path, member: str) -> np.ndarray:
    """Return an array of an archive, mapped from where it lies in the file."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{member} is compressed")
        file.seek(info.header_offset + LENGTHS_AT)
        lengths = [int.from_bytes(file.read(2), "little") for _ in range(2)]
        file.seek(info.header_offset + HEADER_BYTES + sum(lengths))
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, by_columns, dtype = readers[version](file)
        order = "F" if by_columns else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)
