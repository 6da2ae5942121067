"""Data sets that tensorflow-datasets has prepared, read without TensorFlow."""

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dropout.grammar import suggest
from training.data.crops import MODES, ResizedCrop
from training.data.splits import RecordSplit

SPLITS = ("train", "test")


class Prepared(NamedTuple):
    """A prepared data set; `fingerprint` names its contents, as a file name can."""

    train: RecordSplit
    test: RecordSplit
    classes: int
    fingerprint: str


class Examples(NamedTuple):
    """The records of one split: serialised `tf.train.Example`s, parsed when read.

    Images stay encoded. It can be sent to another process.
    """

    serialised: Any

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.serialised)

    def __getitems__(self, rows: Sequence[int], /) -> list[dict[str, Any]]:
        """Return image and label of the examples in some rows."""
        from tensorflow_datasets.proto import tf_example_pb2

        example: Any = tf_example_pb2
        parsed = map(example.Example.FromString, self.serialised.__getitems__(rows))
        return [_image_and_label(each.features.feature) for each in parsed]


def _image_and_label(feature: Any) -> dict[str, Any]:
    (image,) = feature["image"].bytes_list.value
    (label,) = feature["label"].int64_list.value
    return {"image": image, "label": label}


def open_prepared(
    dataset: str,
    data_dir: str,
    splits: tuple[str, str] = SPLITS,
    crop: ResizedCrop | None = None,
) -> Prepared:
    """Return the data set `dataset` in `data_dir`; reads files only, never the network.

    Args:
        dataset: `name` or `name/config`, with `:version` if it shall not be the newest.
        data_dir: the directory in which it is prepared.
        splits: what to train and to test on, such as `train[:90%]`.
        crop: how images of many sizes are brought to one.

    Raises:
        ValueError: it is not there, cannot be read, has no such split, or does not hold
            images, each with one label, of one shape where there is no crop.
    """
    # Takes a second or more to import, and no other source needs it.
    import tensorflow_datasets as tfds

    directory = _locate(dataset, data_dir)
    try:
        builder: Any = tfds.builder_from_directory(directory)
        features = dict(builder.info.features)
        sources = builder.as_data_source(
            list(splits), deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        _ = [each[0] for each in sources]  # Files are opened when they are first read.
    except Exception as error:  # Of protobuf, array_record, the file system ...
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"cannot read {str(directory)!r}: {reason}; expected array_record files "
            f"with the splits {' and '.join(splits)}."
        ) from error
    shape, classes = _shape_and_classes(dataset, features, crop)
    train, test = (
        RecordSplit(Examples(each.data_source), shape, classes, crop=crop)
        for each in sources
    )
    return Prepared(train, test, classes, _fingerprint(directory, data_dir, splits))


def _shape_and_classes(
    dataset: str, features: dict, crop: ResizedCrop | None
) -> tuple[tuple[int, ...], int]:
    from tensorflow_datasets.core.features import ClassLabel, Image

    kinds = {"image": Image, "label": ClassLabel}
    found = all(isinstance(features.get(name), kinds[name]) for name in kinds)
    if (
        not found
        or features["image"].np_dtype != np.uint8
        or features["image"].shape[-1] not in MODES
    ):
        raise ValueError(
            f"dataset {dataset!r} has {' '.join(str(features).split())}; expected "
            f"'image', uint8 with {', '.join(map(str, MODES))} channels, and 'label', "
            "a class."
        )
    shape, classes = features["image"].shape, features["label"].num_classes
    if crop is not None:
        return (crop.size, crop.size, shape[-1]), classes
    if None in shape:
        raise ValueError(
            f"dataset {dataset!r} has images of many sizes; expected "
            "--augment='resized_crop(size=224)', which brings them to one."
        )
    return shape, classes


def prepared_names(data_dir: str) -> list[str]:
    """Return the `name` or `name/config` of each data set prepared in a directory.

    Raises:
        ValueError: the directory cannot be read.
    """
    return list(_versions(data_dir))


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


def _fingerprint(directory: Path, data_dir: str, splits: tuple[str, str]) -> str:
    """Return name, version and a checksum of what describes the data and the splits."""
    name = "-".join(directory.relative_to(data_dir).parts)
    described = (directory / "dataset_info.json").read_bytes()
    if splits != SPLITS:
        described += " ".join(splits).encode()
    return f"{name}-{zlib.crc32(described):08x}"
