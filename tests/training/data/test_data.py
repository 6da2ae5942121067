"""Laws of the data: what is read, how it is cached, and in which order it comes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from paths import ROOT
from tiny_data import feature, pixels, prepare

from training.data import order, splits, standardisation
from training.data.npz import ARRAYS, read_npz
from training.data.prepared import open_prepared
from training.data.sources import load

KEY = jax.random.key(0)


# --- Order, subsets and weights


@pytest.mark.parametrize("validation", [0, 7])
def test_subsets_are_nested_and_leave_the_validation_set_alone(validation):
    subsets = [order.subsets(KEY, 50, n, validation) for n in (1, 10, 43)]
    everything, _ = order.subsets(KEY, 50, 0, validation)
    for (train, held_out), (larger, same) in zip(
        subsets, [*subsets[1:], (everything, subsets[0][1])], strict=True
    ):
        assert np.array_equal(train, larger[: len(train)])
        assert np.array_equal(held_out, same) and len(held_out) == validation
        assert not set(held_out.tolist()) & set(larger.tolist())
    assert sorted([*everything.tolist(), *held_out.tolist()]) == list(range(50))
    assert np.array_equal(order.subsets(KEY, 50, None, validation)[0], everything)


def test_subsets_are_drawn_anew_for_each_key():
    orders = [order.subsets(jax.random.key(seed), 50, 0, 0)[0] for seed in range(3)]
    assert len({tuple(order.tolist()) for order in orders}) == 3


@pytest.mark.parametrize("train, validation", [(44, 7), (-1, 7), (0, 50), (1, -1)])
def test_impossible_subsets_are_refused(train, validation):
    values = f"train_examples={train} and validation_examples={validation}: .* 50 "
    with pytest.raises(ValueError, match=values):
        order.subsets(KEY, 50, train, validation)


@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_an_epoch_shows_examples_once_in_full_batches(batch_size):
    ids = np.arange(100, 123, dtype=np.int32)
    found = order.epoch_order(KEY, 0, ids, batch_size)
    assert found.shape == (23 // batch_size, batch_size)
    assert len(set(found.ravel().tolist())) == found.size
    assert set(found.ravel().tolist()) <= set(ids.tolist())
    whole = order.epoch_order(KEY, 0, ids, 1).ravel()
    assert np.array_equal(found.ravel(), whole[: found.size])


def test_the_order_is_a_function_of_key_and_epoch():
    ids = np.arange(64, dtype=np.int32)
    orders = {
        (seed, epoch): order.epoch_order(jax.random.key(seed), epoch, ids, 8)
        for seed in range(2)
        for epoch in range(3)
    }
    assert len({tuple(order.ravel().tolist()) for order in orders.values()}) == 6
    traced = jax.jit(lambda epoch: order.epoch_order(KEY, epoch, ids, 8))
    for epoch in range(3):
        assert np.array_equal(traced(epoch), orders[0, epoch])


@pytest.mark.parametrize("batch_size", [0, 24])
def test_a_batch_larger_than_the_data_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size {batch_size}: expected 1 to 23"):
        order.epoch_order(KEY, 0, np.arange(23, dtype=np.int32), batch_size)


@pytest.mark.parametrize("count, batch_size", [(0, 4), (8, 4), (9, 4), (3, 10)])
def test_evaluation_counts_every_example_once(count, batch_size):
    ids = np.arange(count, dtype=np.int32)
    batches, weights = order.evaluation_batches(ids, batch_size)
    assert batches.shape == weights.shape == (-(-count // batch_size), batch_size)
    counted = np.bincount(batches.ravel(), weights.ravel(), minlength=count)
    assert np.array_equal(counted, np.ones(count))


# --- Splits and their statistics


class Records:
    """Stands for a data source of tensorflow-datasets."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitems__(self, rows):
        return [{"image": self.images[row], "label": row % 7} for row in rows]


def test_statistics_are_those_of_all_images():
    images = pixels(2500)
    labels = np.zeros(2500, np.int32)
    units = images / 255
    for each, reference in (
        (images, units),
        (100 + units.astype(np.float32), 100 + units.astype(np.float32)),
    ):
        mean, std = standardisation.statistics(splits.ArraySplit(each, labels))
        assert mean.dtype == std.dtype == np.float32
        exact = reference.astype(np.float64)
        np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(std, exact.std((0, 1, 2)), rtol=1e-6)


def test_statistics_of_a_large_streamed_split_are_those_of_an_even_sample():
    images = pixels(30_000, (1, 1, 1))
    mean, std = standardisation.statistics(
        splits.RecordSplit(Records(images), (1, 1, 1), 7)
    )
    sample = images[::15] / 255
    np.testing.assert_allclose([mean[0], std[0]], [sample.mean(), sample.std()], 1e-6)
    assert abs(mean[0] - images.mean() / 255) > 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_standardised_images_have_mean_0_and_std_1(dtype):
    images = pixels(400).astype(dtype) + dtype(0)
    mean, std = standardisation.statistics(
        splits.ArraySplit(images, np.zeros(400, np.int32))
    )
    result = jax.jit(standardisation.standardise)(images, mean, std)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std((0, 1, 2)), 1, rtol=1e-5)


def test_a_channel_that_never_varies_becomes_zero():
    images = np.full((4, 2, 2, 1), 37, np.uint8)
    mean, std = standardisation.statistics(
        splits.ArraySplit(images, np.zeros(4, np.int32))
    )
    result = standardisation.standardise(
        jax.numpy.asarray(images), *map(jax.device_put, (mean, std))
    )
    np.testing.assert_allclose(result, 0, atol=0.1)


def test_fetch_gathers_the_same_from_arrays_and_from_records():
    images = pixels(20)
    labels = np.arange(20, dtype=np.int32) % 7
    streamed = splits.RecordSplit(Records(images), (2, 3, 3), 7)
    array = jax.device_put(splits.ArraySplit(images, labels))
    ids = np.array([3, 19, 3, 0], np.int32)
    for split in (streamed, array):
        assert (split.size, split.image_shape) == (20, (2, 3, 3))
        for fetched, expected in zip(split.fetch(ids), (images, labels), strict=True):
            assert fetched.dtype == expected.dtype
            assert np.array_equal(fetched, expected[ids])
    assert isinstance(array.fetch(ids)[0], jax.Array)


def test_a_data_set_can_be_placed_on_every_device(folders):
    mesh = jax.sharding.Mesh(jax.devices(), ("data",))
    everywhere, rows = (
        jax.NamedSharding(mesh, jax.P(*axes)) for axes in ([], ["data"])
    )
    ids = jax.device_put(np.arange(8, dtype=np.int32), rows)
    for limit in (0, 10**9):
        placed = jax.device_put(load("tiny", *folders, limit), everywhere)
        assert placed.mean.sharding == everywhere and placed.classes == 7
        assert np.array_equal(placed.train.fetch(ids)[0], pixels(30, (4, 5, 3))[:8])


# --- Digits


def test_digits_are_the_bundled_ones_enlarged_and_padded():
    from sklearn.datasets import load_digits

    loaded = load("digits", "", "")
    assert loaded.classes == 10
    splits = (loaded.train, loaded.test)
    assert [split.images.shape for split in splits] == [
        (1437, 28, 28, 1),
        (360, 28, 28, 1),
    ]
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert images.max() == 255 and not np.delete(images, np.s_[2:26], 1).any()
    assert not np.delete(images, np.s_[2:26], 2).any()
    for row, column in np.ndindex(3, 3):
        small = np.round(images[:, 2 + row : 26 : 3, 2 + column : 26 : 3, 0] / 255 * 16)
        seen = sorted(map(tuple, np.column_stack([small.reshape(-1, 64), labels])))
        bundled = np.column_stack(load_digits(return_X_y=True))
        assert seen == sorted(map(tuple, bundled))


def test_each_class_of_digits_is_one_fifth_test():
    loaded = load("digits", "", "")
    test = np.bincount(loaded.test.labels)
    whole = test + np.bincount(loaded.train.labels)
    assert np.all(np.abs(test - whole / 5) < 1)


# --- .npz files


def arrays_of(**changes):
    labels = np.arange(5) % 4
    arrays = dict(zip(ARRAYS, (pixels(5), labels, pixels(2, seed=1), labels[:2])))
    return {name: a for name, a in (arrays | changes).items() if a is not None}


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_an_npz_file_comes_back_as_it_was_saved(tmp_path, dtype):
    images = {name: arrays_of()[name].astype(dtype) for name in ARRAYS[::2]}
    arrays = arrays_of(**images)
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **arrays)
    loaded = load(str(path), "", "")
    kept = np.uint8 if dtype is np.uint8 else np.float32
    assert loaded.classes == 4 and loaded.train.images.dtype == kept
    for split, name in ((loaded.train, "train"), (loaded.test, "test")):
        assert np.array_equal(split.images, arrays[f"{name}_images"])
        assert np.array_equal(split.labels, arrays[f"{name}_labels"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"test_labels": None}, "test_labels.*expected an .npz file with the arrays"),
        ({"train_images": pixels(5)[..., 0]}, r"train_images is uint8 .*\(5, 2, 3\)"),
        ({"test_images": pixels(2).astype(int)}, "test_images is int64 .*uint8 or fl"),
        ({"train_labels": np.zeros(5)}, "train_labels is float64 .* integers"),
        ({"train_labels": np.zeros((5, 1), int)}, r"train_labels is .*\(5, 1\)"),
        ({"train_labels": np.zeros(4, int)}, "train has 5 images and 4 labels"),
        ({"test_labels": np.array([0, -3])}, "test_labels has -3; expected 0 to"),
        ({"test_images": pixels(2, (2, 2, 3))}, r"\(2, 3, 3\) and test .*\(2, 2, 3\)"),
        (
            {"test_images": pixels(0), "test_labels": np.zeros(0, int)},
            "test has 0 images and 0 labels; .* at least one",
        ),
        ({"train_labels": np.array([None] * 5)}, "allow_pickle=False"),
    ],
)
def test_an_npz_file_with_other_contents_is_refused(tmp_path, changes, message):
    np.savez(tmp_path / "own.npz", **arrays_of(**changes))
    refuses(message, str(tmp_path / "own.npz"), "", "")


def test_an_npz_file_that_cannot_be_read_is_refused(tmp_path):
    refuses("cannot read .*No such file", str(tmp_path / "none.npz"), "", "")
    refuses("cannot read .*directory", directory(tmp_path / "folder.npz"), "", "")
    (tmp_path / "text.npz").write_text("text")
    refuses("cannot read .*not a zip file", str(tmp_path / "text.npz"), "", "")


def directory(path):
    path.mkdir()
    return str(path)


def refuses(message, *arguments):
    with pytest.raises(ValueError, match=message) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)


# --- Prepared data sets


def assert_tiny(loaded, seed=0):
    assert loaded.classes == 7
    for offset, (split, count) in enumerate([(loaded.train, 30), (loaded.test, 10)]):
        images, labels = split.fetch(np.arange(count, dtype=np.int32))
        assert np.array_equal(images, pixels(count, (4, 5, 3), seed + offset))
        assert np.array_equal(labels, np.arange(count) % 7)


@pytest.fixture
def folders(tmp_path):
    prepare(tmp_path / "data")
    return str(tmp_path / "data"), str(tmp_path / "cache" / "new")


def test_a_prepared_data_set_is_decoded_once(folders, monkeypatch, capfd):
    first = load("tiny", *folders)
    assert_tiny(first)
    printed = capfd.readouterr().err.splitlines()
    assert all(line.startswith("WARNING:absl:OpenCV") for line in printed)
    assert len(os.listdir(folders[1])) == 1
    with monkeypatch.context() as patch:
        patch.delattr(splits.RecordSplit, "fetch")
        assert_tiny(load("tiny", *folders))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:],
        lambda content: content[::-1],
    ],
    ids=["empty", "truncated", "one bit", "reversed"],
)
def test_a_damaged_cache_is_made_again(folders, damage):
    load("tiny", *folders)
    (cache,) = Path(folders[1]).iterdir()
    intact = cache.read_bytes()
    cache.write_bytes(damage(intact))
    with pytest.raises(ValueError):
        read_npz(cache)
    assert_tiny(load("tiny", *folders))
    assert [*Path(folders[1]).iterdir()] == [cache]
    read_npz(cache)


def test_a_data_set_prepared_anew_is_not_read_from_the_cache_of_the_old(folders):
    load("tiny", *folders)
    info = Path(folders[0], "tiny/1.0.0/dataset_info.json")
    info.write_text(info.read_text().replace('"numBytes": "1"', '"numBytes": "2"'))
    load("tiny", *folders)
    assert len(os.listdir(folders[1])) == 2


def test_a_data_set_too_large_for_memory_is_streamed_alike(folders):
    limit = 40 * 4 * 5 * 3
    array, streamed = load("tiny", *folders, limit), load("tiny", *folders, limit - 1)
    assert isinstance(array.train, splits.ArraySplit)
    assert isinstance(streamed.train, splits.RecordSplit)
    assert_tiny(streamed)
    assert np.array_equal(array.mean, streamed.mean)
    assert np.array_equal(array.std, streamed.std)


def test_the_newest_version_is_read_unless_another_is_named(tmp_path):
    for seed, version in enumerate(["1.9.0", "1.10.0", "1.2.0"]):
        prepare(tmp_path, version=version, seed=2 * seed)
    prepare(tmp_path, name="tiny/config", seed=6)
    assert_tiny(load("tiny", str(tmp_path), "", 0), seed=2)
    assert_tiny(load("tiny:1.9.0", str(tmp_path), "", 0), seed=0)
    assert_tiny(load("tiny/config", str(tmp_path), "", 0), seed=6)
    assert_tiny(load("tiny/config:1.0.0", str(tmp_path), "", 0), seed=6)


def test_reading_needs_neither_tensorflow_nor_the_network(folders):
    program = (
        "import socket, sys\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "from training.data.sources import load\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        f"load('tiny', *{folders!r})\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_a_data_set_that_is_not_there_is_refused(folders, tmp_path):
    refuses("'digit' without a data_dir; did you mean 'digits'", "digit", "", "")
    refuses("'mnist' without a data_dir; allowed: digits, path.npz", "mnist", "", "")
    missing = str(tmp_path / "missing")
    refuses(f"data_dir {missing!r}: No such file", "tiny", missing, "")
    prepared = (
        f"not prepared in data_dir '{re.escape(folders[0])}'; did you mean 'tiny'"
    )
    refuses(f"'tinny' is {prepared}.*tfds build tinny ", "tinny", *folders)
    refuses("'tiny:2.0.0' is not prepared .* tiny:1.0.0", "tiny:2.0.0", *folders)
    refuses(r"needs TensorFlow: pip install -e '.\[prepare\]'", "mnist", *folders)
    empty = directory(tmp_path / "empty")
    refuses("allowed: digits, path.npz. Preparing", "mnist", empty, "")


def test_a_data_set_that_cannot_be_read_is_refused(tmp_path):
    folder = prepare(tmp_path)
    arguments = ("tiny", str(tmp_path), "", 0)
    records = folder / "tiny-test.array_record-00000-of-00001"
    records.rename(folder / "elsewhere")
    refuses("cannot read .*1.0.0.*expected array_record files", *arguments)
    info = folder / "dataset_info.json"
    for content in (
        info.read_text().replace("array_record", "tfrecord"),
        info.read_text().replace('"test"', '"validation"'),
        "{",
    ):
        info.write_text(content)
        refuses("cannot read .*1.0.0.*expected array_record files", *arguments)


def test_a_shard_that_is_missing_is_reported_while_decoding(folders):
    info = Path(folders[0], "tiny/1.0.0/dataset_info.json")
    info.write_text(info.read_text().replace('"30"', '"30", "5"'))
    shard = info.parent / "tiny-train.array_record-00000-of-00001"
    shard.rename(str(shard).replace("of-00001", "of-00002"))
    refuses("cannot decode .*No such file.*00001-of-00002", "tiny", *folders)
    assert not os.listdir(folders[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"label": feature("text_feature.Text", text={})},
        {"image": feature("text_feature.Text", text={})},
    ],
)
def test_a_data_set_without_one_image_and_one_label_is_refused(tmp_path, changes):
    prepare(tmp_path, **changes)
    refuses("'tiny' has .*expected 'image', uint8", "tiny", str(tmp_path), "", 0)


def test_a_cache_that_cannot_be_written_is_refused(folders, tmp_path):
    (tmp_path / "file").write_text("")
    cache = str(tmp_path / "file" / "cache")
    refuses("cannot decode into .*cache_dir", "tiny", folders[0], cache)


# --- Real data


@pytest.fixture
def real_data():
    default = ROOT.parent / "shared" / "tfds"
    path = (
        os.environ["DROPOUT_DATA_DIR"] if "DROPOUT_DATA_DIR" in os.environ else default
    )
    if not Path(path).is_dir():
        pytest.skip(
            f"no prepared data in {path}; DROPOUT_DATA_DIR names another folder"
        )
    return str(path)


def test_mnist_is_mnist(real_data):
    prepared = open_prepared("mnist", real_data)
    assert (prepared.train.size, prepared.test.size) == (60_000, 10_000)
    assert prepared.train.image_shape == (28, 28, 1) and prepared.classes == 10
    images, labels = prepared.test.fetch(np.arange(10_000, dtype=np.int32))
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts and images.dtype == np.uint8


@pytest.mark.slow
def test_all_of_mnist_is_mnist(real_data, tmp_path):
    loaded = load("mnist", real_data, str(tmp_path))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(loaded.train.labels).tolist() == counts
    np.testing.assert_allclose([loaded.mean[0], loaded.std[0]], [0.1307, 0.3081], 1e-3)


def test_cifar10_has_the_shape_of_cifar10(real_data):
    prepared = open_prepared("cifar10", real_data)
    assert (prepared.train.size, prepared.test.size) == (50_000, 10_000)
    assert prepared.train.image_shape == (32, 32, 3) and prepared.classes == 10
    images, labels = prepared.train.fetch(np.arange(0, 50_000, 100, dtype=np.int32))
    assert images.shape == (500, 32, 32, 3) and images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(10))
