"""Data sets that tensorflow-datasets has prepared, read without TensorFlow."""

import os
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dropout.grammar import suggest
from training.data.splits import RecordSplit


class Prepared(NamedTuple):
    """A prepared data set; `fingerprint` names its contents, as a file name can."""

    train: RecordSplit
    test: RecordSplit
    classes: int
    fingerprint: str


def open_prepared(dataset: str, data_dir: str) -> Prepared:
    """Return the data set `dataset` in `data_dir`; reads files only, never the network.

    `dataset` is `name` or `name/config`, with `:version` if it shall not be the newest.

    Raises:
        ValueError: it is not there, cannot be read, or does not hold images of one
            shape, each with one label, in the splits train and test.
    """
    # Takes a second or more to import, and no other source needs it.
    import tensorflow_datasets as tfds

    directory = _locate(dataset, data_dir)
    try:
        builder: Any = tfds.builder_from_directory(directory)
        features = dict(builder.info.features)
        train, test = builder.as_data_source(["train", "test"])
        _ = train[0], test[0]  # Files are opened when they are first read.
    except Exception as error:  # Of protobuf, array_record, the file system ...
        raise ValueError(
            f"cannot read {str(directory)!r}: {str(error).partition(chr(10))[0]}; "
            "expected array_record files with the splits train and test."
        ) from error
    shape, classes = _shape_and_classes(dataset, features)
    name = _fingerprint(directory, data_dir)
    first, second = (RecordSplit(each, shape, classes) for each in (train, test))
    return Prepared(first, second, classes, name)


def _shape_and_classes(dataset: str, features: dict) -> tuple[tuple[int, ...], int]:
    from tensorflow_datasets.core.features import ClassLabel, Image

    kinds = {"image": Image, "label": ClassLabel}
    found = all(isinstance(features.get(name), kinds[name]) for name in kinds)
    if (
        not found
        or features["image"].np_dtype != np.uint8
        or None in features["image"].shape
    ):
        raise ValueError(
            f"dataset {dataset!r} has {' '.join(str(features).split())}; expected "
            "'image', uint8 and all of one shape, and 'label', a class."
        )
    return features["image"].shape, features["label"].num_classes


def _locate(dataset: str, data_dir: str) -> Path:
    """Return the directory of a prepared data set: the version given, or the newest."""
    if not data_dir:
        raise ValueError(
            f"dataset {dataset!r} without a data_dir"
            f"{suggest(dataset, ['digits', 'path.npz'])}, or with data_dir the name of "
            "a tensorflow-datasets data set prepared there."
        )
    versions = _versions(data_dir)
    name, _, version = dataset.partition(":")
    if version not in (["", *versions[name]] if name in versions else []):
        pinned = [
            f"{name}:{version}" for name in versions for version in versions[name]
        ]
        raise ValueError(
            f"dataset {dataset!r} is not prepared in data_dir {data_dir!r}"
            f"{suggest(dataset, ['digits', 'path.npz', *versions, *pinned])}. "
            "Preparing one needs TensorFlow: pip install -e '.[prepare]' && tfds build "
            f"{dataset} --data_dir={data_dir} --file_format=array_record"
        )
    newest = max(versions[name], key=lambda text: tuple(map(int, text.split("."))))
    return Path(data_dir, name, version or newest)


def _versions(data_dir: str) -> dict[str, list[str]]:
    """Return the versions of each `name` or `name/config` prepared in `data_dir`."""
    try:
        os.listdir(data_dir)
    except OSError as error:
        raise ValueError(
            f"cannot read data_dir {data_dir!r}: {error.strerror}; expected a directory"
            " of prepared tensorflow-datasets data sets."
        ) from error
    versions: dict[str, list[str]] = {}
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for info in sorted(Path(data_dir).glob(pattern)):
            if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):
                name = info.parent.parent.relative_to(data_dir).as_posix()
                versions.setdefault(name, []).append(info.parent.name)
    return versions


def _fingerprint(directory: Path, data_dir: str) -> str:
    """Return name, version and a checksum of what describes the prepared data set."""
    name = "-".join(directory.relative_to(data_dir).parts)
    return f"{name}-{zlib.crc32((directory / 'dataset_info.json').read_bytes()):08x}"
