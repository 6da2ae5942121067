"""A prepared set of JPEGs of many sizes, from the photographs of scikit-learn.

It stands for a set such as ImageNet where none is at hand: every image is a crop of a
photograph, scaled, mirrored and coloured, and its class says which photograph and which
colours. The same seed gives the same images.
"""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import UInt8
from PIL import Image
from sklearn.datasets import load_sample_images
from tensorflow_datasets.proto import tf_example_pb2

TINTS = np.array(
    [[1, 1, 1], [1, 0.6, 0.6], [0.6, 1, 0.6], [0.6, 0.6, 1], [0.5, 0.5, 0.5]]
)
PER_FILE = 4096
QUALITY = 90
FEATURES = "tensorflow_datasets.core.features."

Photograph = UInt8[np.ndarray, "h w 3"]


class Pictures(NamedTuple):
    """What to make.

    Attributes:
        train: the number of images to train on.
        validation: the number of images to test on.
        smallest: the shortest side of an image, in pixels.
        largest: the longest side, at most that of the photographs, 427.
        seed: decides every image.
    """

    train: int = 20_000
    validation: int = 1_000
    smallest: int = 160
    largest: int = 420
    seed: int = 0


def prepare_pictures(folder: Path, wanted: Pictures) -> None:
    """Write the images, as tensorflow-datasets would write them, into a new folder.

    Raises:
        ValueError: the folder exists, or the sizes are not possible.
    """
    photographs = load_sample_images().images
    longest = min(min(each.shape[:2]) for each in photographs)
    if not 1 <= wanted.smallest <= wanted.largest <= longest:
        raise ValueError(
            f"sides of {wanted.smallest} to {wanted.largest} pixels: expected 1 <= "
            f"smallest <= largest <= {longest}."
        )
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(f"{folder} exists; expected a new folder.") from None
    lengths = {}
    for number, (split, count) in enumerate(
        (("train", wanted.train), ("validation", wanted.validation))
    ):
        records = make_records(photographs, wanted, number, count)
        lengths[split] = _write_split(folder, split, count, records)
    classes = len(photographs) * len(TINTS)
    (folder / "features.json").write_text(json.dumps(_features(classes)))
    (folder / "dataset_info.json").write_text(json.dumps(_info(folder, lengths)))


def make_records(
    photographs: list[Photograph], wanted: Pictures, split: int, count: int
) -> Iterator[bytes]:
    """Yield the serialised examples of a split, made by as many threads as help."""
    with ThreadPoolExecutor() as threads:
        yield from threads.map(
            lambda row: record(photographs, wanted, (wanted.seed, split, row)),
            range(count),
        )


def record(
    photographs: list[Photograph], wanted: Pictures, seed: tuple[int, ...]
) -> bytes:
    """Return one serialised example, a function of the seed alone."""
    random = np.random.default_rng(seed)
    label = int(random.integers(len(photographs) * len(TINTS)))
    whole = Image.fromarray(photographs[label % len(photographs)])
    wide, tall = random.integers(wanted.smallest, wanted.largest + 1, 2).tolist()
    zoom = random.uniform(0.5, 1.0)
    box_wide, box_tall = max(1, round(zoom * wide)), max(1, round(zoom * tall))
    left = int(random.integers(whole.width - box_wide + 1))
    upper = int(random.integers(whole.height - box_tall + 1))
    part = whole.crop((left, upper, left + box_wide, upper + box_tall))
    pixels = np.asarray(part.resize((wide, tall), Image.Resampling.BILINEAR))
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    tint = TINTS[label // len(photographs)] * random.uniform(0.8, 1.2, 3)
    tinted = np.clip(pixels * tint, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(tinted).save(encoded, "jpeg", quality=QUALITY)
    return _serialised(encoded.getvalue(), label)


def _serialised(image: bytes, label: int) -> bytes:
    proto: Any = tf_example_pb2
    example = proto.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


def _write_split(
    folder: Path, split: str, count: int, records: Iterator[bytes]
) -> list[int]:
    """Write the files of a split; return how many examples each has."""
    files = -(-count // PER_FILE)
    lengths = [min(PER_FILE, count - PER_FILE * file) for file in range(files)]
    for file, length in enumerate(lengths):
        name = f"{folder.parent.name}-{split}.array_record-{file:05}-of-{files:05}"
        writer = ArrayRecordWriter(str(folder / name), "group_size:1")
        for each in islice(records, length):
            writer.write(each)
        writer.close()
    return lengths


def _features(classes: int) -> dict[str, Any]:
    shape = {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}}
    features = {
        "image": _feature("image_feature.Image", image=shape),
        "label": _feature(
            "class_label_feature.ClassLabel", classLabel={"numClasses": str(classes)}
        ),
    }
    return _feature("features_dict.FeaturesDict", featuresDict={"features": features})


def _feature(name: str, **contents: Any) -> dict[str, Any]:
    return {"pythonClassName": FEATURES + name, **contents}


def _info(folder: Path, lengths: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "fileFormat": "array_record",
        "name": folder.parent.name,
        "version": folder.name,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": list(map(str, each)),
            }
            for split, each in lengths.items()
        ],
    }
