"""Streamed data: the same batches however they are read, and crops by the example."""

import io
import itertools
import math
import zlib
from dataclasses import replace
from operator import itemgetter

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image
from tiny_data import example, feature, pixels, prepare, write_records

from training import experiment as experiments
from training.canonical import canonical
from training.config import Config
from training.data.batches import batch_ids, batches_from, make_batch
from training.data.crops import central_box, decode, drawn_box, resized_crop
from training.data.mapped import map_npz
from training.data.npz import ARRAYS, read_npz
from training.data.reading import PIECE, Loader, Requests, fetched, read_ahead
from training.data.sources import load
from training.data.splits import RecordSplit

THREADS = Loader(2, 0)


def many_sizes():
    shape = {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}}
    return feature("image_feature.Image", image=shape)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A prepared set of 30 and 10 images of as many sizes."""
    path = tmp_path_factory.mktemp("sizes")
    folder = prepare(path, image=many_sizes())
    for split, count in (("train", 30), ("test", 10)):
        images = [pixels(1, (9 + row, 40 - row, 3), row)[0] for row in range(count)]
        records = [example(image, row % 7) for row, image in enumerate(images)]
        write_records(folder, "tiny", split, records)
    return str(path)


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    return Config(
        dataset="tiny",
        data_dir=data_dir,
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        model="mlp(widths=(3, 3))",
        dropout="fc2:bernoulli:0.5",
        augment="resized_crop(size=6) randaugment(probability=1.0) color_jitter flip",
        batch_size=7,
        epochs=3,
        mesh="data:2",
        loader_threads=1,
    )


def equal(one, other):
    leaves = [
        np.asarray(
            jax.random.key_data(x)
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves((one, other))
    ]
    half = len(leaves) // 2
    return all(map(np.array_equal, leaves[:half], leaves[half:]))


def streamed(config, first=0):
    return list(batches_from(experiments.prepare(canonical(config)), first))


# --- Order


def test_batches_are_the_same_resumed_and_with_any_number_of_threads(config):
    whole = streamed(config)
    assert len(whole) == 12  # Three epochs of four batches.
    for threads, first in ((3, 0), (2, 5), (1, 11)):
        again = streamed(replace(config, loader_threads=threads), first)
        assert len(again) == 12 - first
        assert all(map(equal, again, whole[first:]))


def test_a_batch_read_alone_is_that_of_the_run(config):
    experiment = experiments.prepare(canonical(config))
    for number, batch in enumerate(itertools.islice(batches_from(experiment, 0), 6)):
        ids, epoch = next(batch_ids(experiment, number))
        assert equal(make_batch(experiment, ids, epoch), batch)


def test_an_example_is_cropped_alike_in_every_batch_of_an_epoch(config):
    def crops(config):
        return {
            int(example): image
            for batch in streamed(replace(config, epochs=1))
            for example, weight, image in zip(
                *(np.asarray(x)[0] for x in (batch.examples, batch.weights)),
                np.asarray(batch.images)[0],
            )
            if weight
        }

    small, large = crops(config), crops(replace(config, batch_size=13, mesh="data:1"))
    both = small.keys() & large.keys()
    assert len(both) > 20
    assert all(np.array_equal(small[each], large[each]) for each in both)
    other = crops(replace(config, data_seed=1))
    assert not any(np.array_equal(small[i], other[i]) for i in small.keys() & other)


def child(key, name):
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


@pytest.mark.slow
def test_each_image_and_each_partner_is_cropped_by_the_examples_own_key(config):
    """The chain of keys, written out: data, augment, epoch, example, its crop."""
    mixed = replace(config, augment="resized_crop(size=6) mixup", steps=5, epochs=0)
    experiment = experiments.prepare(canonical(mixed))
    train, data = experiment.data.train, child(jax.random.key(0), "data")
    everything = np.arange(30, dtype=np.int32)
    for step, epoch in ((0, 0), (4, 1)):
        batch = next(batches_from(experiment, step))
        partners = batch.augmentation.partners
        key = jax.random.fold_in(child(data, "augment"), epoch)
        for row in (0, 6):
            own = jax.random.fold_in(key, int(batch.examples[0, row]))
            words = jax.random.key_data(child(own, "resized_crop"))
            expected = train.fetch(batch.examples[0, row : row + 1], np.array([words]))
            assert np.array_equal(expected[0][0], batch.images[0, row])
            theirs = child(child(own, "partner"), "resized_crop")
            many = np.array([jax.random.key_data(theirs)] * 30)
            crops, labels = train.fetch(everything, many)
            image = np.asarray(partners.images[0, row])
            (which,) = np.flatnonzero((crops == image).all((1, 2, 3)))
            assert labels[which] == partners.labels[0, row]


@pytest.mark.slow
def test_members_of_a_population_read_what_they_would_alone(config):
    config = replace(config, augment="resized_crop(size=6) mixup", mesh="data:1")
    together = streamed(replace(config, seeds="3,5"))
    for member, seed in enumerate((3, 5)):
        for whole, alone in zip(together, streamed(replace(config, seed=seed))):
            own = jax.tree.map(itemgetter(member), whole)
            assert equal(own, alone)


@pytest.mark.slow
def test_processes_read_what_threads_read(config):
    if not flags.FLAGS.is_parsed():  # Grain asks absl's flags, which a script parses.
        flags.FLAGS.mark_as_parsed()
    whole, again = streamed(config, 3), streamed(replace(config, loader_processes=2), 3)
    assert len(again) == len(whole) == 9 and all(map(equal, again, whole))


class Numbers:
    """Records whose image is their row."""

    def __len__(self):
        return 3 * PIECE + 5

    def __getitems__(self, rows):
        assert len(rows) <= PIECE
        return [
            {"image": np.full((1, 1, 1), row, np.uint8), "label": row % 5}
            for row in rows
        ]


def test_what_is_read_ahead_comes_in_order_and_in_pieces():
    split = RecordSplit(Numbers(), (1, 1, 1), 5)
    ids = np.arange(3 * PIECE + 5, dtype=np.int32)[::-1].copy()
    for batches in (ids[None], ids[:100].reshape(4, 25), ids[:96].reshape(2, 4, 12)):
        found = list(fetched(split, batches, THREADS))
        for (images, labels), expected in zip(found, batches, strict=True):
            assert np.array_equal(images[..., 0, 0, 0], expected)
            assert np.array_equal(labels, expected % 5)


class Damaged(Numbers):
    def __getitems__(self, rows):
        return [{"image": b"no image", "label": 0} for _ in rows]


def test_a_damaged_image_ends_the_reading_in_one_line():
    requests = Requests(
        RecordSplit(Damaged(), (1, 1, 1), 5), np.zeros((1, 3), np.int32)
    )
    with pytest.raises(ValueError, match="cannot decode examples 0 to 0: cannot ide"):
        next(read_ahead(requests, THREADS))


# --- Crops


def words_of(count):
    return np.random.default_rng(3).integers(0, 2**32, (count, 2), np.uint32)


def test_drawn_boxes_have_the_area_and_the_ratio_that_are_asked_for():
    crop = resized_crop(size=8, scale=(0.1, 0.5), ratio=(0.5, 2.0))
    boxes = np.array([drawn_box((400, 300), crop, w) for w in words_of(2000)])
    left, upper, right, lower = boxes.T
    assert left.min() >= 0 and upper.min() >= 0
    assert right.max() <= 400 and lower.max() <= 300
    area = (right - left) * (lower - upper) / (400 * 300)
    ratio = (right - left) / (lower - upper)
    assert 0.098 < area.min() < 0.11 and 0.49 < area.max() < 0.51
    assert 0.49 < ratio.min() < 0.52 and 1.95 < ratio.max() < 2.03
    # Uniform over [0.1, 0.5]: the mean of 2000 has a standard error of 0.0026.
    assert abs(area.mean() - 0.3) < 4 * 0.4 / math.sqrt(12 * 2000)
    assert abs(np.log(ratio).mean()) < 4 * 2 * math.log(2) / math.sqrt(12 * 2000)
    place = left / (400 - (right - left))
    assert abs(place.mean() - 0.5) < 4 / math.sqrt(12 * 2000)


def test_a_box_that_never_fits_is_the_largest_central_one():
    crop = resized_crop(size=8, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    for words in words_of(5):
        assert drawn_box((90, 30), crop, words) == (30, 0, 60, 30)
        assert drawn_box((20, 30), crop, words) == (0, 5, 20, 25)


def test_the_crop_at_test_is_the_central_square():
    crop = resized_crop(size=4, test_share=0.5)
    assert central_box((40, 20), crop) == (15, 5, 25, 15)
    image = np.zeros((20, 40, 3), np.uint8)
    image[5:15, 15:25] = 200
    assert (decode(image, 3, crop, None) == 200).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_has_the_channels_that_are_asked_for(channels):
    stored = io.BytesIO()
    pixel = np.full((5, 7), 90, np.uint8)
    Image.fromarray(pixel).save(stored, "png")
    found = decode(stored.getvalue(), channels, None, None)
    assert found.shape == (5, 7, channels) and (found[..., 0] == 90).all()
    assert channels < 4 or (found[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flip resized_crop", "expected resized_crop first"),
        ("randaugment resized_crop", "expected resized_crop first, and then rand"),
        ("flip color_jitter", "expected resized_crop first, and then rand"),
        ("randaugment(magnitude=10.5)", r"magnitude=10.5.*\[0, 10\]"),
        ("randaugment(count=0)", r"count=0.*\[1, 16\]"),
        ("color_jitter(hue=0.6)", r"hue=0.6.*\[0, 0.5\]"),
        ("resized_crop(size=0)", r"size=0.*\[1, 4096\]"),
        ("resized_crop(scale=(0.5, 0.2))", r"scale=\(0.5, 0.2\).*low <= high"),
        ("resized_crop(scale=(0.5, 2.0))", "high <= 1"),
        ("resized_crop(ratio=(1.0,))", r"expected \(low, high\)"),
        ("resized_crop(sise=3)", "'sise'; did you mean 'size'"),
    ],
)
def test_crops_that_are_not_possible_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        canonical(Config(augment=text))


def test_images_of_many_sizes_need_a_crop(data_dir):
    with pytest.raises(ValueError, match="many sizes; expected --augment='resized_cr"):
        load("tiny", data_dir, "")


# --- Splits and files


def test_splits_are_parts_of_prepared_ones(data_dir):
    crop = resized_crop(size=5)
    whole = load("tiny", data_dir, "", crop=crop)
    parts = load("tiny", data_dir, "", 0, ("train[:40%]", "train[40%:]"), crop)
    ids = np.arange(30, dtype=np.int32)
    expected = whole.train.fetch(ids)[0]
    assert (parts.train.size, parts.test.size) == (12, 18)
    assert np.array_equal(parts.train.fetch(ids[:12])[0], expected[:12])
    assert np.array_equal(parts.test.fetch(ids[:18])[0], expected[12:])
    for dataset, says in (("tiny", "train and val"), ("digits", "expected a prepared")):
        with pytest.raises(ValueError, match=says) as caught:
            load(dataset, data_dir, "", 0, ("train", "val"), crop)
        assert "\n" not in str(caught.value)


def arrays(dtype):
    labels = np.arange(9) % 3
    images = pixels(9).astype(dtype)
    return dict(zip(ARRAYS, (images, labels, images[:4], labels[:4])))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_a_mapped_file_is_read_as_a_file_in_memory_is(tmp_path, dtype):
    path = str(tmp_path / "own.npz")
    np.savez(path, **arrays(dtype))
    mapped, kept = load(path, "", "", 0), load(path, "", "")
    assert isinstance(map_npz(path)[0].images, np.memmap)
    ids = np.array([8, 0, 8, 3], np.int32)
    for one, other in ((mapped.train, kept.train), (mapped.test, kept.test)):
        for found, expected in zip(one.fetch(ids % 4), other.fetch(ids % 4)):
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
    np.testing.assert_array_equal(mapped.mean, kept.mean)
    np.testing.assert_array_equal(mapped.std, kept.std)


def test_a_file_that_cannot_be_mapped_is_refused(tmp_path):
    path = str(tmp_path / "own.npz")
    np.savez_compressed(path, **arrays(np.uint8))
    with pytest.raises(ValueError, match="train_images.npy is compressed; .*savez"):
        load(path, "", "", 0)
    np.savez(path, **{**arrays(np.uint8), "test_labels": np.zeros(3)})
    with pytest.raises(ValueError, match="test_labels is float64 .*expected integers"):
        load(path, "", "", 0)
    holes = arrays(np.float32)
    holes["test_images"][2, 0, 0] = np.nan
    np.savez(path, **holes)
    with pytest.raises(ValueError, match=r"test_images \[2\] are not finite"):
        load(path, "", "", 0)


def test_a_crop_acts_on_arrays_of_whole_numbers(tmp_path):
    cropped = load("digits", "", "", crop=resized_crop(size=14, test_share=1.0))
    images, _ = cropped.test.fetch(np.arange(3, dtype=np.int32))
    assert images.shape == (3, 14, 14, 1) and cropped.train.shapes(2)[0].shape[1] == 14
    path = str(tmp_path / "own.npz")
    np.savez(path, **arrays(np.float32))
    with pytest.raises(ValueError, match="float32 images of 3 channels; resized_crop"):
        load(path, "", "", crop=resized_crop(size=2))
    assert read_npz(path)[0].images.dtype == np.float32
