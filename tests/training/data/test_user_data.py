"""Data of the user's own: what is refused, what is said, and how it is standardised."""

import io
import re
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from test_bad_input import arrays

from training.data.description import data_lines, reading_line
from training.data.npz import ARRAYS, shortened
from training.data.reading import Loader
from training.data.sources import load
from training.data.splits import ArraySplit, RecordSplit
from training.data.standardisation import standardise, statistics


def loaded(directory, **changes):
    path = directory / "mine.npz"
    np.savez(path, **arrays(**changes))
    return load(str(path), "", "")


def both(shape, dtype=np.uint8):
    """Images of one shape for both splits."""
    random = np.random.default_rng(1)
    return {
        f"{split}_images": random.integers(0, 255, (count, *shape)).astype(dtype)
        for split, count in (("train", 24), ("test", 6))
    }


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (4, 9, 12), (3, 5, 7), (3, 24, 32)]
)
def test_channels_first_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match="look as if their channels came first"):
        loaded(tmp_path, **both(shape))


@pytest.mark.parametrize(
    "shape", [(32, 32, 3), (3, 3, 3), (1, 100, 12), (4, 4, 64), (28, 28, 1), (8, 8, 8)]
)
def test_images_of_few_rows_are_not_refused(shape, tmp_path):
    assert loaded(tmp_path, **both(shape)).train.image_shape == shape


def test_the_description_says_how_images_and_classes_are_read(tmp_path):
    found = loaded(tmp_path, **both((6, 9, 2)))
    assert data_lines(found) == [
        "mine.npz: 6x9 images of 2 channels (height x width), 3 classes, 24 examples "
        "to train and 6 to test",
        "each class has 8 to 8 training examples",
    ]


class NoRecords:
    def __len__(self):
        return 0

    def __getitems__(self, rows):
        return []


@pytest.mark.parametrize(
    ("loader", "read_by"),
    [
        (Loader(threads=1, processes=0), "1 thread"),
        (Loader(threads=4, processes=2), "2 processes of 4 threads"),
    ],
)
def test_a_streamed_split_says_what_a_step_takes(loader, read_by):
    """128 images of 256 x 256 x 3 bytes are 24 MiB, and 10 steps read 240."""
    split = RecordSplit(NoRecords(), (256, 256, 3), 10)
    assert reading_line(loader, 128, split) == (
        f"streamed by {read_by}: a step takes 128 images, 24.0 MiB decoded, so that "
        "10 steps a second need 240 MiB/s"
    )


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        (np.arange(24) % 3 + 1, "1 of 4 classes have no training example: 0;"),
        (np.array([10, 20, 999] * 8), "997 of 1,000 .*: 0 to 9, 11 to 19, 21 to 998;"),
        (np.arange(24) * 2, "23 of 47 .* example: 1, 3, 5, 7 and 19 more;"),
    ],
)
def test_classes_without_an_example_are_named_in_one_line(labels, warning, tmp_path):
    found = loaded(tmp_path, train_labels=labels, test_labels=labels[:6])
    *_, line = data_lines(found)
    assert line.startswith("warning: ")
    assert "\n" not in line and re.search(warning, line), line


@pytest.mark.parametrize("odd", [1, 5])
def test_a_class_that_only_the_test_split_has_is_refused(odd, tmp_path):
    train = np.array([0, 2, 3] * 8)
    with pytest.raises(ValueError, match=f"test_labels has {odd}; .*0, 2 to 3"):
        loaded(tmp_path, train_labels=train, test_labels=np.array([0, 2, 3, 3, 0, odd]))


def test_a_message_names_a_few_of_many_examples(tmp_path):
    images = np.ones((5000, 2, 2, 1), np.float32)
    images[::2] = np.nan
    labels = np.arange(5000) % 3
    with pytest.raises(ValueError, match="0, 2, 4, 6 and 2,496 more") as raised:
        loaded(tmp_path, test_images=images, test_labels=labels, train_images=images,
               train_labels=labels)  # fmt: skip
    assert len(str(raised.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([3], "3"), ([3, 4, 5, 9], "3 to 5, 9"),
        ([1, 3, 5, 7, 9, 10], "1, 3, 5, 7 and 2 more"),
    ],
)  # fmt: skip
def test_numbers_are_shortened_to_ranges(numbers, text):
    assert shortened(np.array(numbers)) == text


@pytest.mark.parametrize("name", ARRAYS)
def test_a_member_that_is_no_array_is_refused(name, tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for each, array in arrays().items():
            content = io.BytesIO()
            np.save(content, array)
            if each == name:
                archive.writestr(name, b"not an array")
            else:
                archive.writestr(f"{each}.npy", content.getvalue())
    with pytest.raises(ValueError, match=f"{name}.*expected an .npz file"):
        load(str(path), "", "")


# --- Standardisation


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, np.uint8), (0, np.uint8), (1.0, np.float32)]
)
def test_a_channel_that_never_varies_does_not_magnify_a_test_pixel(value, dtype):
    """One grey value off the constant is one standard deviation, or less."""
    images = np.asarray(both((8, 8, 4), dtype)["train_images"])
    images[..., 3] = value
    split = ArraySplit(images, np.arange(24, dtype=np.int32) % 3)
    mean, std = statistics(split)
    test, grey = images[:1].copy(), 1 if dtype is np.uint8 else 1 / 255
    test[0, 0, 0, 3] = value - grey if value else 1
    seen = standardise(*map(jnp.asarray, (test, mean, std)))[..., 3]
    assert abs(float(seen[0, 0, 0])) == pytest.approx(1, rel=1e-4)
    assert abs(np.delete(seen.ravel(), 0)).max() < 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_channel_that_varies_in_one_pixel_alone_is_bounded(dtype):
    """100,000 pixels, one of them differs: its distance is 255 grey values at most."""
    images = np.full((100, 40, 25, 1), 200).astype(dtype)
    images[0, 0, 0, 0] = 10
    mean, std = statistics(ArraySplit(images, np.zeros(100, np.int32)))
    assert abs(standardise(*map(jnp.asarray, (images[:1], mean, std)))).max() <= 255


def test_holes_in_one_channel_leave_the_others_as_they_are():
    random = np.random.default_rng(2)
    images = random.normal(3, 2, (50, 8, 8, 3)).astype(np.float32)
    exact = images.astype(np.float64)
    images[::2, ..., 1] = np.nan
    mean, std = statistics(ArraySplit(images, np.zeros(50, np.int32)))
    kept = [exact[..., 0], exact[1::2, ..., 1], exact[..., 2]]
    np.testing.assert_allclose(mean, [each.mean() for each in kept], rtol=1e-5)
    np.testing.assert_allclose(std, [each.std() for each in kept], rtol=1e-5)


def test_a_channel_without_a_finite_pixel_is_named(tmp_path):
    images = np.random.default_rng(3).normal(size=(24, 8, 8, 3)).astype(np.float32)
    images[..., 1] = np.nan
    tests = np.zeros((6, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="finite in the channels 1; expected"):
        loaded(tmp_path, train_images=images, test_images=tests)
