"""The user's own data: an .npz file with four arrays, and what is refused in it."""

import zipfile
from pathlib import Path

import numpy as np

from training.data.splits import ArraySplit

LARGEST_LABEL = 10**6
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
# An image of so few rows, of many pixels in many channels, has its channels first.
COLOURS, MANY = (1, 3, 4), 5


def read_npz(path: str | Path) -> tuple[ArraySplit, ArraySplit]:
    """Return the train and test split of an .npz file with the four `ARRAYS`.

    Images are uint8, or float (kept as float32), of shape (examples, height, width,
    channels); labels are integers from 0.

    Raises:
        ValueError: the file cannot be read, or holds something else.
    """
    arrays = _read_arrays(path)
    train = _in_single(array_split(f"{path}: train", *arrays[:2]))
    test = _in_single(array_split(f"{path}: test", *arrays[2:]))
    check_same_shape(path, train, test)
    return train, test


def check_same_shape(path: str | Path, train: ArraySplit, test: ArraySplit) -> None:
    """Raise ValueError for splits whose images differ in shape."""
    if train.image_shape != test.image_shape:
        raise ValueError(
            f"{path}: train images are {train.image_shape} and test images "
            f"{test.image_shape}; expected one height, width and number of channels."
        )


def check_splits(path: str | Path, train: ArraySplit, test: ArraySplit) -> None:
    """Raise ValueError for arrays that the user cannot have meant.

    These are images with the channels first, labels that training never sees, and
    pixels that are not finite where that cannot be skipped.
    """
    _check_axes(path, train.image_shape)
    _check_labels(path, np.asarray(train.labels), np.asarray(test.labels))
    _check_finite(path, train, test)


def _read_arrays(path: str | Path) -> list[np.ndarray]:
    try:
        # What is no archive np.load takes for a pickle, and advises to trust it.
        zipfile.ZipFile(path).close()
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in ARRAYS]
        for name, found in zip(ARRAYS, arrays, strict=True):
            if not isinstance(found, np.ndarray):  # The bytes of a file of that name.
                raise ValueError(f"{name} is no array")
        return arrays
    except Exception as error:  # Damage shows itself in a dozen kinds of error.
        raise ValueError(
            f"cannot read {str(path)!r}: {str(error).partition(chr(10))[0]}; expected "
            f"an .npz file with the arrays {', '.join(ARRAYS)}."
        ) from error


def array_split(name: str, images: np.ndarray, labels: np.ndarray) -> ArraySplit:
    """Return two arrays as a split.

    Raises:
        ValueError: they are no images with one label each.
    """
    if (
        images.ndim != 4
        or 0 in images.shape[1:]
        or not (images.dtype == np.uint8 or images.dtype.kind == "f")
    ):
        raise ValueError(
            f"{name}_images is {images.dtype} of shape {images.shape}; expected uint8 "
            "or float of shape (examples, height, width, channels)."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name}_labels is {labels.dtype} of shape {labels.shape}; expected "
            "integers of shape (examples,)."
        )
    if not len(images) == len(labels) > 0:
        raise ValueError(
            f"{name} has {len(images)} images and {len(labels)} labels; expected as "
            "many of both, and at least one."
        )
    if labels.min() < 0 or labels.max() > LARGEST_LABEL:
        found = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"{name}_labels has {found}; expected 0 to {LARGEST_LABEL}.")
    return ArraySplit(images, labels.astype(np.int32))


def _in_single(split: ArraySplit) -> ArraySplit:
    """Return a split whose images, unless they are uint8, are float32."""
    return ArraySplit(_single(np.asarray(split.images)), split.labels)


def _single(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):  # What float32 cannot hold is infinite.
        return images.astype(np.float32, copy=False)


def _check_axes(path: str | Path, shape: tuple[int, ...]) -> None:
    height, width, channels = shape
    # One row of many pixels may be a signal; a square of them is an image in grey.
    suspicious = height > 1 or width == channels
    if height in COLOURS and min(width, channels) >= MANY and suspicious:
        raise ValueError(
            f"{path}: images of {height}x{width} pixels with {channels} channels look "
            "as if their channels came first; expected (examples, height, width, "
            "channels), which numpy.moveaxis(images, 1, -1) gives."
        )


def _check_labels(path: str | Path, train: np.ndarray, test: np.ndarray) -> None:
    if train.max() < 1:
        raise ValueError(
            f"{path}: train_labels has one class, 0; expected two or more."
        )
    unknown = np.setdiff1d(test, train)
    if unknown.size:
        raise ValueError(
            f"{path}: test_labels has {shortened(unknown)}; expected labels of "
            f"train_labels, which has {shortened(np.unique(train))}."
        )


def _check_finite(path: str | Path, train: ArraySplit, test: ArraySplit) -> None:
    """Training can go on without some examples (`--on_nan`), a test score cannot."""
    if test.images.dtype.kind == "f":
        finite = [np.isfinite(_single(c)).all((1, 2, 3)) for c in test.image_chunks()]
        holes = np.flatnonzero(~np.concatenate(finite))
        if holes.size:
            raise ValueError(
                f"{path}: test_images [{shortened(holes)}] are not finite; expected "
                "finite pixels."
            )
    if train.images.dtype.kind == "f":
        known = [np.isfinite(_single(c)).any((0, 1, 2)) for c in train.image_chunks()]
        empty = np.flatnonzero(~np.any(known, axis=0))
        if empty.size:
            raise ValueError(
                f"{path}: no pixel of train_images is finite in the channels "
                f"{shortened(empty)}; expected finite pixels in each."
            )


def shortened(numbers: np.ndarray) -> str:
    """Return ascending integers as text, as ranges, and of many ranges the first four.

    For example `0 to 9, 12, 14`.
    """
    ranges = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    texts = [
        str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}"
        for each in ranges[:4]
    ]
    left_out = len(numbers) - sum(map(len, ranges[:4]))
    return ", ".join(texts) + (f" and {left_out:,} more" if left_out else "")
