"""Laws of augmentation: each example's own key decides, whatever batch it is in."""

import itertools
from dataclasses import replace
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import sampled
from scipy import stats
from variant_cases import QUICK

from dropout import Timeline
from training.canonical import canonical
from training.data.augmentation import (
    AUGMENTATIONS,
    ON_HOST,
    augmentation_inputs,
    augmentations_text,
    parse_augmentations,
)
from training.data.batches import batches_from
from training.data.device_augmentations import cutmix, flip, mixup, pad_crop
from training.experiment import prepare
from training.objective import Objective, examples_of
from training.runtime.devices import make_mesh, over_rows
from training.state import Batch, initial_state
from training.step import accumulate

TRAIN = np.arange(40, dtype=np.int32)
LABELS, CLASSES, SHAPE = TRAIN % 5, 5, (6, 7, 2)
IMAGES = np.random.default_rng(0).normal(size=(40, *SHAPE)).astype(np.float32)
FIRST, SECOND = IMAGES[:2]
TEXTS = ["pad_crop(padding=2) flip mixup(alpha=1.0)", "cutmix"]


def over_keys(function, count, *images):
    """What a function makes of the same images under many keys."""
    keys = jax.random.split(jax.random.key(7), count)
    apply = jax.jit(
        jax.vmap(lambda key: function(key, *map(jnp.asarray, images))),
        compiler_options=QUICK,
    )
    return jax.tree.map(np.asarray, apply(keys))


def fetch(ids):
    return jnp.asarray(IMAGES)[ids], jnp.asarray(LABELS)[ids]


def forward(params, stats, images, drop, row_weights=None):
    return images.reshape(images.shape[0], -1) @ params["kernel"], stats


def objective(text, smoothing=0.0):
    calls = parse_augmentations(text)
    timeline = Timeline(60, 6)
    return Objective(forward, lambda x: x, (), timeline, "hash", smoothing, calls)


def batch_of(text, ids, parts=1, devices=1, epoch=0, key=None):
    examples = np.asarray(ids, np.int32).reshape(parts, -1)
    examples = np.pad(examples, ((0, 0), (0, -examples.shape[1] % devices)))
    key = jax.random.key(3) if key is None else key
    augmentation = augmentation_inputs(
        parse_augmentations(text), key, epoch, examples, TRAIN, fetch
    )
    images, labels = fetch(examples)
    arrays = (
        images,
        labels,
        examples,
        np.ones(examples.shape, np.float32),
        augmentation,
    )
    return Batch(*jax.device_put(arrays, over_rows(make_mesh(f"data:{devices}"))))


def seen(text, *args, **options):
    """The images that the network sees, and their labels as one distribution each."""
    batch = batch_of(text, *args, **options)
    look = jax.jit(
        lambda part: examples_of(objective(text), part), compiler_options=QUICK
    )
    number = batch.labels.shape[0]
    parts = [look(jax.tree.map(itemgetter(k), batch)) for k in range(number)]
    images = np.concatenate([images for images, _ in parts])
    targets = [
        sum(
            np.eye(CLASSES)[labels] * np.asarray(weights)[:, None]
            for labels, weights in targets
        )
        for _, targets in parts
    ]
    return images, np.concatenate(targets)


def test_flip_mirrors_half_of_the_images():
    flipped = over_keys(flip, 400, FIRST)
    same = (flipped == FIRST).all((1, 2, 3))
    assert (same | (flipped == FIRST[:, ::-1]).all((1, 2, 3))).all()
    # 400 coins: |z| < 4.
    assert abs(int(same.sum()) - 200) < 4 * 10


def test_pad_crop_shifts_in_all_ways_alike_and_fills_up_with_zeros():
    shifted = over_keys(partial(pad_crop, padding=1), 900, FIRST)
    padded = np.pad(IMAGES[0], ((1, 1), (1, 1), (0, 0)))
    crops = [padded[r : r + 6, c : c + 7] for r in range(3) for c in range(3)]
    counts = [int((shifted == crop).all((1, 2, 3)).sum()) for crop in crops]
    assert sum(counts) == 900
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("alpha", sampled([0.2, 1.0], ["1.0"]))
def test_mixup_mixes_by_a_share_that_is_beta_distributed(alpha):
    images, shares = over_keys(partial(mixup, alpha=alpha), 1000, FIRST, SECOND)
    s = shares[:, None, None, None]
    np.testing.assert_allclose(images, s * FIRST + (1 - s) * SECOND, atol=1e-6)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_share_of_cutmix_is_the_area_that_is_left():
    ones = np.ones((8, 16, 1), np.float32)
    images, shares = over_keys(cutmix, 1000, ones, 0 * ones)
    np.testing.assert_array_equal(images.mean((1, 2, 3)), shares)
    box = images[..., 0] == 0
    rows, columns = box.any(2), box.any(1)
    np.testing.assert_array_equal(box, rows[:, :, None] & columns[:, None])


def test_the_box_of_cutmix_has_the_images_proportions_and_a_uniform_centre():
    side = 60
    blank = np.zeros((side, side, 1), np.float32)
    images = over_keys(partial(cutmix, alpha=1.0), 2000, blank, blank + 1)[0][..., 0]
    rows, columns = images.any(2), images.any(1)
    inside = ~(rows[:, [0, -1]].any(1) | columns[:, [0, -1]].any(1))
    np.testing.assert_array_equal(rows[inside].sum(1), columns[inside].sum(1))
    # A pixel in the middle is in the box if |u - 1/2| < side / 2 in both directions:
    # with u uniform and side^2 uniform that is E[side^2] = 1/2, less for rounding down.
    share = images[:, side // 2, side // 2].mean()
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 2000) + 1 / side


@pytest.mark.slow
@pytest.mark.parametrize("text", sampled(TEXTS, ["cutmix"]))
def test_an_example_is_augmented_alike_in_any_batch(text):
    order = np.random.default_rng(1).permutation(24)
    images, targets = seen(text, range(24))
    found = seen(text, order, parts=2, devices=4)
    np.testing.assert_array_equal(found[0], images[order])
    np.testing.assert_array_equal(found[1], targets[order])
    alone = seen(text, [17, 3, 20, 4, 9])
    np.testing.assert_array_equal(alone[0], images[[17, 3, 20, 4, 9]])
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


@pytest.mark.slow
def test_keys_and_partners_are_drawn_anew_every_epoch_and_for_every_seed():
    others = {"epoch": 1}, {"key": jax.random.key(4)}
    first, *rest = (
        batch_of("mixup", TRAIN, **other).augmentation for other in ({}, *others)
    )
    assert (seen("mixup", TRAIN)[0] != IMAGES).any()
    for other in rest:
        assert (first.keys != other.keys).all()
        assert (first.partners.images != other.partners.images).any()


@pytest.mark.slow
def test_members_of_a_population_are_augmented_as_they_would_be_alone():
    text, members = TEXTS[0], [jax.random.key(seed) for seed in range(3)]
    batches = [batch_of(text, range(5), key=key) for key in members]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves)[:, 0], *batches)
    look = jax.vmap(lambda part: examples_of(objective(text), part)[0])
    images = jax.jit(look, compiler_options=QUICK)(stacked)
    alone = [seen(text, range(5), key=key)[0] for key in members]
    np.testing.assert_allclose(images, alone, atol=1e-6)


def test_partners_come_from_the_whole_training_set_alike():
    calls, subset = parse_augmentations("mixup"), TRAIN[5:25]
    key, examples = jax.random.key(5), np.arange(4000, dtype=np.int32)
    drawn = augmentation_inputs(calls, key, 0, examples, subset, lambda ids: (ids, ids))
    ids, counts = np.unique(drawn.partners.labels, return_counts=True)
    np.testing.assert_array_equal(ids, subset)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.slow
def test_the_two_labels_of_a_mixed_image_weigh_as_much_as_the_example():
    _, targets = seen("mixup", range(12))
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert ((targets > 0) & (targets < 1)).any()


@pytest.mark.parametrize(("text", "smoothing"), [("mixup", 0.1), ("cutmix", 0.0)])
@pytest.mark.slow
def test_the_gradient_is_that_of_the_loss_with_soft_labels(text, smoothing):
    kernel = jax.random.normal(jax.random.key(1), (84, CLASSES)) / 9
    state = initial_state({"kernel": kernel}, {}, OPTIMIZER)
    batch = batch_of(text, range(12), parts=3)
    step = jax.jit(
        partial(accumulate, objective(text, smoothing)), compiler_options=QUICK
    )
    gradient, _, sums = step(state, batch, jax.random.key(2))
    images, targets = seen(text, range(12), parts=3)
    x = images.reshape(12, -1).astype(np.float64)
    targets = (1 - smoothing) * targets + smoothing / CLASSES
    logits = x @ np.asarray(kernel, np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient["kernel"], x.T @ (p - targets), atol=1e-4)
    np.testing.assert_allclose(sums.loss, -(targets * np.log(p)).sum(), rtol=1e-5)
    assert float(sums.examples) == 12


class OPTIMIZER:
    @staticmethod
    def init(params):
        return ()


def test_without_augmentation_the_step_draws_nothing():
    def text(augmentations):
        state = initial_state({"kernel": jnp.ones((84, CLASSES))}, {}, OPTIMIZER)
        batch = batch_of(augmentations, range(4))
        step = jax.jit(partial(accumulate, objective(augmentations)))
        return step.lower(state, batch, jax.random.key(0)).as_text()

    assert batch_of("none", range(4)).augmentation is None
    assert "threefry" not in text("none") and "threefry" in text("flip")


def test_what_a_batch_is_augmented_by_depends_on_its_step_alone(small):
    config = replace(small, augment="flip cutmix")
    experiment = prepare(canonical(config))
    whole = itertools.islice(batches_from(experiment, 0), 6, 8)
    for first, again in zip(whole, batches_from(experiment, 6)):
        for one, other in zip(
            *map(jax.tree.leaves, (first.augmentation, again.augmentation))
        ):
            assert (one == other).all()


def test_every_augmentation_is_in_a_text_here():
    calls = {call.name for text in TEXTS for call in parse_augmentations(text)}
    # What acts on the host has its laws in test_streaming and test_distortions.
    assert calls == set(AUGMENTATIONS) - set(ON_HOST)


def test_the_text_of_augmentations_reads_back():
    calls = parse_augmentations("  pad_crop( padding=2)  flip mixup ")
    assert augmentations_text(calls) == "pad_crop(padding=2) flip mixup"
    assert parse_augmentations(augmentations_text(calls)) == calls
    assert parse_augmentations("") == parse_augmentations("none") == ()
    assert augmentations_text(()) == "none"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flop", "'flop'; did you mean 'flip'"),
        ("flip mixup(beta=1)", "'beta'.*alpha"),
        ("mixup flip", "mixup, cutmix last"),
        ("mixup cutmix", "mixup, cutmix last"),
        ("flip flip", "each augmentation once"),
        ("pad_crop(padding='4')", "padding='4'.*int"),
    ],
)
def test_a_malformed_augmentation_is_one_line_that_says_what_is_allowed(text, says):
    with pytest.raises(ValueError, match=says) as raised:
        parse_augmentations(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["mixup(alpha=0.0)", "cutmix(alpha=-1.0)"])
def test_a_beta_distribution_needs_a_positive_parameter(text):
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1e6\]"):
        seen(text, range(2))
