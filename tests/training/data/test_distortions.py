"""RandAugment and color jitter: each operation by hand, and the key that decides."""

import zlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from tiny_data import pixels

from training import experiment as experiments
from training.canonical import canonical
from training.config import Config
from training.data.augmentation import DISTORTIONS
from training.data.batches import batches_from
from training.data.color_jitter import color_jitter, turn_hue
from training.data.crops import generator
from training.data.npz import ARRAYS
from training.data.randaugment import OPERATIONS, randaugment

HEIGHT, WIDTH = 30, 40
Y, X = np.mgrid[:HEIGHT, :WIDTH]
WEAKEST_IS_IDENTITY = set(OPERATIONS) - {
    "autocontrast", "equalize", "invert", "posterize",
}  # fmt: skip


def picture(values):
    values = np.asarray(values, np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def distorted(name, values, strength, sign=1):
    """What an operation makes of the values, which have a last axis for channels."""
    found = np.asarray(OPERATIONS[name](picture(values), strength, sign), float)
    return found.reshape(values.shape)


def noise(channels):
    return pixels(1, (HEIGHT, WIDTH, channels))[0]


def words_of(count):
    return np.random.default_rng(4).integers(0, 2**32, (count, 2), np.uint32)


# --- Operations of RandAugment


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_operations_on_each_value_are_what_their_formulas_say(channels, sign):
    v = noise(channels).astype(float)
    gray = v @ ([0.299, 0.587, 0.114] if channels == 3 else [1.0])
    factor = 1 + sign * 0.81
    bits = v.astype(int)

    def moved(centre, factor):
        return np.clip(centre + factor * (v - centre), 0, 255)

    for name, strength, expected in (
        ("invert", 0.9, 255 - v),
        ("posterize", 0.9, bits & 0b10000000),
        ("posterize", 0.5, bits & 0b11000000),
        ("posterize", 1.0, bits & 0b10000000),
        ("solarize", 0.9, np.where(v < 26, v, 255 - v)),
        ("solarize_add", 0.9, np.where(v < 128, np.minimum(v + 99, 255), v)),
        ("brightness", 0.9, np.clip(factor * v, 0, 255)),
        ("brightness", 1.0, np.clip((1.9 if sign > 0 else 0.1) * v, 0, 255)),
        ("contrast", 0.9, moved(gray.mean(), factor)),
        ("color", 0.9, moved(gray[..., None], factor)),
    ):
        found = distorted(name, noise(channels), strength, sign)
        exact = name in ("invert", "posterize", "solarize", "solarize_add")
        assert np.abs(found - expected).max() <= (0 if exact else 1.5), name


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_moves_values_away_from_a_smoothed_image(channels):
    v = noise(channels).astype(float)
    around = sum(
        v[1 + r : HEIGHT - 1 + r, 1 + c : WIDTH - 1 + c]
        for r in (-1, 0, 1)
        for c in (-1, 0, 1)
    )
    inner = v[1:-1, 1:-1]
    smooth = (around + 4 * inner) / 13
    for sign, factor in ((1, 1.45), (-1, 0.55)):
        found = distorted("sharpness", noise(channels), 0.5, sign)[1:-1, 1:-1]
        expected = np.clip(smooth + factor * (inner - smooth), 0, 255)
        assert np.abs(found - expected).max() <= 1.5


def test_autocontrast_and_equalize_use_all_values():
    v = (50 + noise(3) * (150 / 255)).round()
    v[0, :2] = [[50], [200]]
    found = distorted("autocontrast", v, 0.9)
    assert np.abs(found - (v - 50) * 255 / 150).max() <= 1
    # Five values, 255 times each: they are spread evenly.
    levels = np.repeat([3, 7, 8, 9, 200], 255).reshape(51, 25, 1)
    found = distorted("equalize", levels, 0.9)
    ranks = np.repeat([0, 1, 2, 3, 4], 255).reshape(51, 25, 1)
    assert np.abs(found - ranks * 255 / 4).max() <= 1


def rotated(angle):
    """Where a pixel was before a counterclockwise rotation, with y downwards."""
    x, y = X - (WIDTH - 1) / 2, Y - (HEIGHT - 1) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    before = cos * x - sin * y, sin * x + cos * y
    return before[0] + (WIDTH - 1) / 2, before[1] + (HEIGHT - 1) / 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_geometric_operations_read_each_pixel_where_it_was(channels, sign):
    """On a plane, bilinear interpolation is exact: 2 x + 3 y at the pixel's source."""
    plane = (2 * X + 3 * Y + 1)[..., None] + np.arange(channels)
    for name, x, y in (
        ("rotate", *rotated(sign * np.pi * 27 / 180)),
        ("shear_x", X + sign * 0.27 * (Y + 0.5), Y),
        ("shear_y", X, Y + sign * 0.27 * (X + 0.5)),
        ("translate_x", X + sign * 0.405 * WIDTH, Y),
        ("translate_y", X, Y + sign * 0.405 * HEIGHT),
    ):
        found = distorted(name, plane, 0.9, sign)
        right, bottom = WIDTH - 1, HEIGHT - 1
        within = (x >= 0) & (x <= right) & (y >= 0) & (y <= bottom)
        beyond = (x < -1) | (x > right + 1) | (y < -1) | (y > bottom + 1)
        expected = (2 * x + 3 * y + 1)[..., None] + np.arange(channels)
        assert within.sum() > 500 and beyond.sum() > 50, name
        assert np.abs(found - expected)[within].max() <= 1, name
        assert (found[beyond] == 128).all(), name


@pytest.mark.parametrize("channels", [1, 3])
def test_magnitude_0_leaves_an_image_as_it_is_where_it_can(channels):
    unchanged = {
        name
        for name in OPERATIONS
        if np.array_equal(distorted(name, noise(channels), 0.0), noise(channels))
    }
    # Noise has all values, which leaves nothing to autocontrast.
    assert unchanged - {"autocontrast"} == WEAKEST_IS_IDENTITY


@pytest.fixture
def drawn(monkeypatch):
    """Operations that only record what they are called with."""
    calls = []

    def recorder(name):
        def operation(image, strength, sign):
            calls.append((name, strength, sign))
            return image

        return operation

    for name in list(OPERATIONS):
        monkeypatch.setitem(OPERATIONS, name, recorder(name))
    return calls


def test_operations_strengths_and_signs_are_drawn_as_stated(drawn):
    options = {"count": 3, "magnitude": 5.0, "magnitude_std": 0.5, "probability": 0.7}
    for words in words_of(1000):
        randaugment(words, picture(noise(1)), **options)
    names, strengths, signs = zip(*drawn)
    assert abs(len(drawn) - 2100) < 4 * np.sqrt(3000 * 0.7 * 0.3)
    found, counts = np.unique(names, return_counts=True)
    assert set(found) == set(OPERATIONS)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.kstest(strengths, stats.norm(0.5, 0.05).cdf).pvalue > 1e-3
    assert abs(sum(signs)) < 4 * np.sqrt(len(signs))


def test_magnitudes_are_clipped(drawn):
    for words in words_of(50):
        randaugment(words, picture(noise(1)), magnitude_std=10.0, probability=1.0)
    _, strengths, _ = zip(*drawn)
    assert min(strengths) == 0 and max(strengths) == 1


def test_operations_are_drawn_by_the_words_and_the_name(drawn):
    """The generator, written out; a run repeats an older one only if it stays."""
    randaugment(np.array([7, 9], np.uint32), picture(noise(1)), probability=1.0)
    key = zlib.crc32(b"randaugment") << 64 | 7 << 32 | 9
    numbers = np.random.Generator(np.random.Philox(key=key)).random((2, 3))
    names = [list(OPERATIONS)[int(15 * number)] for number in numbers[:, 0]]
    signs = [1 if number < 0.5 else -1 for number in numbers[:, 2]]
    assert drawn == [(name, 0.9, sign) for name, sign in zip(names, signs)]


def test_a_probability_of_0_leaves_an_image_as_it_is():
    image = picture(noise(3))
    for words in words_of(30):
        assert randaugment(words, image, probability=0.0) is image


# --- Color jitter

GRAYED = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def jittered(values, words, **options):
    return np.asarray(color_jitter(words, picture(values), **{**GRAYED, **options}))


def test_color_jitter_of_no_reach_is_the_identity():
    for words in words_of(5):
        assert np.array_equal(jittered(noise(3), words), noise(3))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_factor_of_color_jitter_is_uniform_about_one(name):
    # Halves of two complementary colours: the mean gray is 120, that of the first 127.
    values = np.full((2, 2, 3), [80, 160, 80])
    values[1] = 240 - values[1]
    centre = {"brightness": 0, "contrast": 120, "saturation": 127}[name]
    found = [jittered(values, words, **{name: 0.5}) for words in words_of(500)]
    factors = (np.array(found)[:, 0, 0, 1] - centre) / (160 - centre)
    assert 0.45 < factors.min() < 0.54 and 1.45 < factors.max() < 1.55
    assert abs(factors.mean() - 1) < 4 / np.sqrt(12 * 500) + 0.01
    assert abs(factors.std() - 1 / np.sqrt(12)) < 0.03


def test_hues_turn_around_the_circle():
    red = np.full((2, 2, 3), [250, 0, 0])
    for turn, expected in ((1 / 3, [0, 250, 0]), (-1 / 3, [0, 0, 250]), (0.0, red)):
        found = np.asarray(turn_hue(picture(red), turn), int)
        assert np.abs(found - expected).max() < 9
    seen = np.array([jittered(red, words, hue=0.1) for words in words_of(99)])
    # A tenth of the circle is 0.6 of the way from red to yellow, or to magenta.
    assert 100 < seen[..., 1].max() <= 155 and 100 < seen[..., 2].max() <= 155
    assert (seen[..., 0] > 245).all()


def test_gray_images_have_no_colour_to_change():
    for words in words_of(5):
        found = jittered(noise(1), words, saturation=1.0, hue=0.5)
        assert np.array_equal(found, noise(1)[..., 0])
        assert jittered(noise(1), words, brightness=0.5).shape == (HEIGHT, WIDTH)


# --- Keys


def test_each_distortion_and_the_crop_draw_numbers_of_their_own():
    words = np.array([7, 9], np.uint32)
    crop, one, other = (generator(words, name).random(4) for name in ("", *DISTORTIONS))
    philox = np.random.Philox(key=7 * 2**32 + 9)
    assert np.array_equal(crop, np.random.Generator(philox).random(4))
    assert not set(crop) & set(one) and not set(one) & set(other)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distorted")
    labels = np.arange(12) % 3
    images = pixels(12, (8, 9, 3))
    arrays = dict(zip(ARRAYS, (images, labels, images[:4], labels[:4])))
    np.savez(folder / "own.npz", **arrays)
    return Config(
        dataset=str(folder / "own.npz"),
        cache_dir=str(folder),
        model="mlp(widths=(3,))",
        dropout="none",
        augment="randaugment(count=3, probability=1.0) color_jitter flip",
        batch_size=4,
        epochs=2,
        mesh="data:1",
        loader_threads=2,
    )


def child(key, name):
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def test_images_in_memory_are_distorted_by_their_examples_own_keys(config):
    """The chain of keys, written out: data, augment, epoch, example, its crop."""
    experiment = experiments.prepare(canonical(config))
    stored = pixels(12, (8, 9, 3))
    data = child(jax.random.key(0), "data")
    for step, batch in enumerate(batches_from(experiment, 0)):
        key = jax.random.fold_in(child(data, "augment"), step // 3)
        for example, image in zip(batch.examples[0], batch.images[0]):
            own = jax.random.fold_in(key, int(example))
            words = np.asarray(jax.random.key_data(child(own, "resized_crop")))
            whole = randaugment(
                words, picture(stored[example]), count=3, probability=1.0
            )
            assert np.array_equal(np.asarray(color_jitter(words, whole)), image)


def test_only_training_distorts_and_statistics_are_those_of_the_images(config):
    plain = experiments.load_data(replace(config, augment="none"))
    data = experiments.load_data(config)
    ids = np.arange(4, dtype=np.int32)
    for split in (data.train, data.test):
        assert np.array_equal(split.fetch(ids)[0], pixels(12, (8, 9, 3))[:4])
    np.testing.assert_array_equal(data.mean, plain.mean)
    np.testing.assert_array_equal(data.std, plain.std)


@pytest.mark.parametrize(
    ("dtype", "channels", "says"),
    [
        (np.float32, 3, "float32 images of 3 channels; randaugment and color_jitter"),
        (np.uint8, 4, "uint8 images of 4 channels; .*expect uint8 with 1 or 3"),
    ],
)
def test_images_that_cannot_be_distorted_are_refused(tmp_path, dtype, channels, says):
    path, labels = str(tmp_path / "own.npz"), np.arange(3)
    images = pixels(3, (4, 4, channels)).astype(dtype)
    np.savez(path, **dict(zip(ARRAYS, (images, labels, images, labels))))
    config = Config(dataset=path, cache_dir=str(tmp_path), augment="randaugment")
    with pytest.raises(ValueError, match=says) as caught:
        experiments.load_data(config)
    assert "\n" not in str(caught.value)


def test_a_text_is_not_distorted(tmp_path):
    config = Config(dataset="alice", cache_dir=str(tmp_path), augment="color_jitter")
    with pytest.raises(ValueError, match="acts on images, and --dataset is text"):
        experiments.load_data(config)
