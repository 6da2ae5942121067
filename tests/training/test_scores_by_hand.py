"""What a network predicts and how it is scored, against numbers worked out by hand.

The network gives its images, after the site `fc`, so that a mask and a rate can be read
off its logits.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import VARIANTS, Timeline, learned_rows, parse, record_sites, resolve
from evaluation.inference import make_predict_samples
from training.data.augmentation import augment, parse_augmentations
from training.data.device_augmentations import flip
from training.objective import Objective, mean_penalty
from training.scoring import make_evaluate_batch, mean_scores, scores_of
from training.scoring import test_logits as logits_at_test
from training.state import State, Totals, empty_totals

KEY, ROWS, CLASSES = jax.random.key(4), 6, 40


def forward(params, stats, images, drop, row_weights=None):
    return drop("fc", images.reshape(len(images), -1)), stats


def objective(plan, smoothing=0.0):
    rows = resolve(parse(plan), ("fc",))
    return Objective(forward, lambda x: x, rows, Timeline(10, 2), "hash", smoothing)


def state_after(steps):
    return State(jnp.int32(steps), jnp.int32(0), {}, {}, (), empty_totals())


def images(value=None):
    shape = (ROWS, 1, CLASSES, 1)
    return jax.random.normal(KEY, shape) if value is None else jnp.full(shape, value)


def log_softmax(x):
    x = np.float64(x) - np.float64(x).max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.slow
def test_evaluation_has_no_label_smoothing():
    x, labels = images(), jnp.arange(ROWS) * 3
    weights = jnp.float32([1, 1, 0, 1, 1, 0])
    totals = make_evaluate_batch(objective("none", smoothing=0.3))(
        state_after(4), x, labels, weights
    )
    own = log_softmax(x.reshape(ROWS, -1))[np.arange(ROWS), labels]
    assert float(totals.loss) == pytest.approx(-float((own * weights).sum()), rel=1e-5)
    assert float(totals.examples) == 4


def test_scores_are_sums_over_all_examples_divided_by_their_weight():
    """Two members and two batches: (6 + 2) / (12 + 4), not the mean of 6/12 and 2/4."""
    first = Totals(jnp.float32([6, 1]), jnp.float32([9, 2]), jnp.float32([12, 4]))
    second = Totals(jnp.float32([2, 2]), jnp.float32([3, 4]), jnp.float32([4, 4]))
    assert scores_of(first) == [(0.5, 0.75), (0.25, 0.5)]
    assert mean_scores([first, second]) == [(0.5, 0.75), (0.375, 0.75)]
    assert np.isnan(scores_of(empty_totals())).all()


@pytest.mark.parametrize(("steps", "rate"), [(1, 0.0), (6, 0.4), (10, 0.72)])
def test_rates_are_those_of_the_last_step_done(steps, rate):
    """0.8 @linear over 10 steps: step k, counted from 0, has the rate 0.08 k."""
    sample = make_predict_samples(objective("fc:bernoulli:0.8@linear"), "mc", 1)
    (found,) = sample(state_after(steps), KEY, images(1.0), jnp.arange(ROWS))
    # Log-probabilities differ as logits do, which are 1 / (1 - rate) or 0.
    spread = np.ptp(np.float64(found), axis=-1)
    np.testing.assert_allclose(spread, 1 / (1 - rate) if rate else 0, atol=1e-4)


def by_hand(draw, rate):
    """Keys of dropout: epoch 0 -> draw -> site -> example, with JAX's own functions."""
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), draw)
    key = jax.random.fold_in(key, jnp.uint32(zlib.crc32(b"fc")))
    keys = jnp.stack([jax.random.fold_in(key, row) for row in range(ROWS)])
    dropped = VARIANTS["bernoulli"](keys, images(1.0).reshape(ROWS, -1), rate)
    return np.asarray(dropped == 0)


@pytest.mark.slow
def test_samples_are_the_draws_from_1_on():
    """Draw 0 is the one of training, whose masks a sample does not repeat."""
    sample = make_predict_samples(objective("fc:bernoulli:0.5"), "mc", 2)
    found = np.asarray(sample(state_after(3), KEY, images(1.0), jnp.arange(ROWS)))
    dropped = found < found.mean(-1, keepdims=True)
    for number, mask in enumerate(dropped):
        np.testing.assert_array_equal(mask, by_hand(number + 1, 0.5))
        assert (mask != by_hand(0, 0.5)).mean() > 0.3


def test_logits_at_test_are_the_plain_ones():
    found, _ = logits_at_test(objective("fc:bernoulli:0.9"), state_after(9), images())
    np.testing.assert_array_equal(found, images().reshape(ROWS, -1))


def test_flip_is_a_fair_coin():
    """20,000 coins: |z| < 4, where a chance of 0.45 would be 14 away."""
    image = jnp.float32([[[1.0], [0.0]]])
    keys = jax.random.split(jax.random.key(11), 20_000)
    flipped = jax.jit(jax.vmap(flip, (0, None)))(keys, image)[:, 0, 0, 0] == 0
    z = (int(flipped.sum()) - 10_000) / np.sqrt(20_000 / 4)
    assert abs(z) < 4


@pytest.mark.slow
def test_a_partner_is_flipped_under_a_key_of_its_own():
    """Both or neither is flipped in half of 4,000 pairs: |z| < 4."""
    calls, rows = parse_augmentations("flip mixup(alpha=1.0)"), 4000
    both = jnp.tile(jnp.float32([[[1.0], [0.0]]]), (rows, 1, 1, 1))
    keys = jax.random.split(jax.random.key(12), rows)
    mixed, _ = jax.jit(lambda *given: augment(calls, *given))(both, both, keys)
    differ = (mixed[:, 0, 0, 0] > 1e-6) & (mixed[:, 0, 0, 0] < 1 - 1e-6)
    z = (int(differ.sum()) - rows / 2) / np.sqrt(rows / 4)
    assert abs(z) < 4


def test_the_penalty_of_a_run_is_its_formula_over_the_training_examples():
    """Concrete dropout: l^2 sum W^2 / (1 - p) + K (p log p + (1 - p) log(1 - p))."""
    kernel = jnp.float32([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])

    def call(drop):
        x = drop("fc", jnp.ones((2, 3)), reader="out/kernel")
        return drop("out/kernel", x, kernel, jnp.matmul)

    sites = record_sites(call)
    plan = parse("fc:concrete(length_scale=0.1):0.2@linear")
    rows = resolve(plan, tuple(site.name for site in sites))
    goal = objective("none")._replace(
        rows=rows, learned=learned_rows(rows, sites), train_size=50
    )
    p = 0.2
    params = {
        "out": {"kernel": kernel},
        "dropout": {"fc": {"logit": jnp.float32(np.log(p / (1 - p)))}},
    }
    entropy = p * np.log(p) + (1 - p) * np.log(1 - p)
    whole = 0.01 * 15.25 / (1 - p) + 3 * entropy
    # `linear` has come half way at step 5 of 10.
    found = mean_penalty(goal, params, jnp.int32(5))
    assert float(found) == pytest.approx(whole / 2 / 50, rel=1e-5)
