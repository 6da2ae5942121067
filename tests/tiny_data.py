"""A prepared data set as tensorflow-datasets would write it, of a few tiny images."""

import io
import json
from pathlib import Path

# They define flags, which a flagsaver would take away again if they came later.
import array_record.python.array_record_data_source  # noqa: F401
import grain  # noqa: F401
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

FEATURES = "tensorflow_datasets.core.features."


def pixels(count, shape=(2, 3, 3), seed=0):
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(0, 256, (count, *shape), np.uint8)


def prepare(data_dir, name="tiny", version="1.0.0", seed=0, image=None, label=None):
    """Writes what tensorflow-datasets would: 30 and 10 PNG images of 4x5x3."""
    folder = Path(data_dir, name, version)
    folder.mkdir(parents=True)
    shape = {"dtype": "uint8", "shape": {"dimensions": ["4", "5", "3"]}}
    features = {
        "image": image or feature("image_feature.Image", image=shape),
        "label": label
        or feature("class_label_feature.ClassLabel", classLabel={"numClasses": "7"}),
    }
    whole = feature("features_dict.FeaturesDict", featuresDict={"features": features})
    (folder / "features.json").write_text(json.dumps(whole))
    splits = [("train", 30), ("test", 10)]
    info = {
        "fileFormat": "array_record",
        "name": name.partition("/")[0],
        "version": version,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(count)],
            }
            for split, count in splits
        ],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for offset, (split, count) in enumerate(splits):
        images = pixels(count, (4, 5, 3), seed + offset)
        records = [example(image, row % 7) for row, image in enumerate(images)]
        write_records(folder, name.partition("/")[0], split, records)
    return folder


def write_records(folder, name, split, records):
    """Writes the one file of a split."""
    path = folder / f"{name}-{split}.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def feature(name, **contents):
    return {"pythonClassName": FEATURES + name, **contents}


def example(image, label):
    """A record of an image as PNG and its label."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "png")
    return record_of(png.getvalue(), label)


def record_of(image, label):
    """A record of an image's bytes and its label."""
    record = tf_example_pb2.Example()
    record.features.feature["image"].bytes_list.value.append(image)
    record.features.feature["label"].int64_list.value.append(label)
    return record.SerializeToString()
