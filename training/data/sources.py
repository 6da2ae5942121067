"""Data sets by name: an embedded one, a user's file, or a prepared data set."""

import math
import os
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import jax
import numpy as np

from training.data.crops import ResizedCrop
from training.data.kept_statistics import kept_statistics
from training.data.mapped import decoded_bytes, map_npz, streamed
from training.data.npz import ARRAYS, check_splits, read_npz
from training.data.prepared import SPLITS, open_prepared
from training.data.splits import ArraySplit, DataSet, RecordSplit, Split, chunk_of
from training.data.text import ALICE, read_text
from training.record.progress import steps_shown

IN_MEMORY_BYTES = 2**30  # Data sets, decoded, up to this are kept as arrays.


def load(
    dataset: str,
    data_dir: str,
    cache_dir: str,
    in_memory_bytes: int = IN_MEMORY_BYTES,
    splits: tuple[str, str] = SPLITS,
    crop: ResizedCrop | None = None,
) -> DataSet:
    """Return the data set called `dataset`, its arrays on the device if it is alone.

    Args:
        dataset: "digits", "alice", a path that ends in .npz or .txt, or else a
            tensorflow-datasets name: `name` or `name/config`, with `:version` if not
            the newest.
        data_dir: where tensorflow-datasets has prepared data sets; may be empty.
        cache_dir: where these are kept once decoded.
        in_memory_bytes: the examples of a data set that is larger once decoded are
            read from the disk whenever they are fetched.
        splits: what to train and to test on, of a prepared data set.
        crop: how images of a stored size are brought to another; they are then read
            whenever they are fetched.

    Raises:
        ValueError: an unknown name, or data that cannot be read.
    """
    if _is_text(dataset) or _is_arrays(dataset):
        _check_whole(dataset, splits)
    if _is_text(dataset):
        if crop is not None:
            raise ValueError("--augment acts on images, and --dataset is text.")
        path = ALICE if dataset == "alice" else dataset
        return _placed(read_text(dataset, path))
    if _is_arrays(dataset):
        found = _arrays(dataset, data_dir, in_memory_bytes, crop)
    else:
        found = _prepared(dataset, data_dir, cache_dir, in_memory_bytes, splits, crop)
    train, test, classes = found
    mean, std = kept_statistics(train, Path(cache_dir))
    return _placed(DataSet(dataset, classes, train, test, mean, std))


def _placed(data: DataSet) -> DataSet:
    """Return the data on the only device, or on the host, where several share them."""
    return jax.device_put(data) if jax.device_count() == 1 else data


def _is_text(dataset: str) -> bool:
    return dataset == "alice" or dataset.endswith(".txt")


def _is_arrays(dataset: str) -> bool:
    return dataset == "digits" or dataset.endswith(".npz")


def _check_whole(dataset: str, splits: tuple[str, str]) -> None:
    if splits != SPLITS:
        raise ValueError(
            f"--train_split={splits[0]} --test_split={splits[1]}: expected a prepared "
            f"data set, not {dataset!r}, which has the splits {' and '.join(SPLITS)}."
        )


def _arrays(
    dataset: str, data_dir: str, in_memory_bytes: int, crop: ResizedCrop | None
) -> tuple[Split, Split, int]:
    """Return the splits and the number of classes of the digits or of an .npz file."""
    if dataset == "digits":
        train, test, classes, large = *digits(), 10, False
    else:
        path = _found(dataset, data_dir)
        large = decoded_bytes(path) > in_memory_bytes
        train, test = map_npz(path) if large else read_npz(path)
        check_splits(path, train, test)
        classes = 1 + int(max(train.labels.max(), test.labels.max()))
    if not large and crop is None:
        return train, test, classes
    first, second = (streamed(dataset, each, classes, crop) for each in (train, test))
    return first, second, classes


def _prepared(
    dataset: str,
    data_dir: str,
    cache_dir: str,
    in_memory_bytes: int,
    splits: tuple[str, str],
    crop: ResizedCrop | None,
) -> tuple[Split, Split, int]:
    """Return the splits and the number of classes of a prepared data set."""
    train, test, classes, name = open_prepared(dataset, data_dir, splits, crop)
    size = (train.size + test.size) * math.prod(train.image_shape)
    if crop is None and size <= in_memory_bytes:
        return *_cached(Path(cache_dir, f"{name}.npz"), train, test), classes
    return train, test, classes


def _found(path: str, data_dir: str) -> Path:
    """Return `path` if it exists, else the file of that name in `data_dir`."""
    moved = Path(data_dir, Path(path).name)
    return moved if data_dir and not Path(path).exists() else Path(path)


def digits() -> tuple[ArraySplit, ArraySplit]:
    """Return scikit-learn's 1797 digits of 8x8 as 28x28x1 uint8: 1437 train, 360 test.

    Each pixel is repeated 3x3, two rows of zeros put on every side, and 0..16 becomes
    0..255. To test is every fifth of the digits sorted by class (stably), so that each
    class keeps its share; nothing about the split is random.
    """
    # What `load_digits` reads, without its import of a second or more.
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data")
    table = np.loadtxt(Path(str(path), "digits.csv.gz"), np.uint8, delimiter=",")
    pixels, labels = table[:, :-1], table[:, -1]
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    images = np.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2), (0, 0)))
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::5]] = True
    labels = labels.astype(np.int32)
    train = ArraySplit(images[~test], labels[~test])
    return train, ArraySplit(images[test], labels[test])


def _cached(
    path: Path, train: RecordSplit, test: RecordSplit
) -> tuple[ArraySplit, ArraySplit]:
    """Return both splits as arrays from a file, which is written if it is missing."""
    try:
        return read_npz(path)
    except ValueError:  # Not there yet, or damaged: an archive has checksums.
        return _decode_into(path, train, test)


def _decode_into(
    path: Path, train: RecordSplit, test: RecordSplit
) -> tuple[ArraySplit, ArraySplit]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            arrays = [*_decode(train), *_decode(test)]
            whole = Path(scratch, path.name)
            np.savez(whole, **dict(zip(ARRAYS, arrays, strict=True)))
            os.replace(whole, path)
    except OSError as error:
        raise ValueError(
            f"cannot decode into {str(path)!r}: {error}; expected a cache_dir that can "
            "be written to."
        ) from error
    return ArraySplit(*arrays[:2]), ArraySplit(*arrays[2:])


def _decode(split: RecordSplit) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((split.size, *split.image_shape), np.uint8)
    labels = np.empty(split.size, np.int32)
    chunk = chunk_of(split.image_shape)
    starts = range(0, split.size, chunk)
    for start in steps_shown(starts, f"decoding {split.size} images"):
        ids = np.arange(start, min(start + chunk, split.size), dtype=np.int32)
        images[ids], labels[ids] = split.fetch(ids)
    return images, labels
