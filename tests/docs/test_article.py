"""The founding article's statements, each beside the form that holds.

`docs/article.md` refers to these tests by name.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import Moment, Timeline, bernoulli, bind, parse, resolve, rows_at
from dropout.grammar import parse_call
from models import create
from models.convolution import convolution

RATE, ROWS = 0.1, 4000


def drop_at(plan, key, rows, step=0):
    table = resolve(parse(plan), ("fc",) if "fc" in plan else ("x", "conv/kernel"))
    moment = Moment(key, jnp.arange(rows), step, step)
    return bind(rows_at(table, 0, Timeline(10, 1)), moment)


def test_a_mask_of_ones_for_the_dropped_keeps_what_should_go(key):
    """Section 3.2: y = f(W (x * m)) with m = 1 for the dropped keeps only a share p."""
    x = jnp.ones((ROWS, 10))
    dropped = (bernoulli(key, x, RATE) == 0).astype(jnp.float32)
    as_written, right = (x * dropped).mean(), (x * (1 - dropped)).mean()
    # 40,000 decisions at 0.1: five standard deviations are 0.0075.
    assert abs(float(as_written) - RATE) < 0.0075
    assert abs(float(right) - (1 - RATE)) < 0.0075


def test_without_scale_the_mean_shrinks_and_with_it_stays(key):
    """Section 3.2 has no factor 1 / (1 - p)."""
    x = jnp.ones((ROWS, 10))
    y = bernoulli(key, x, 0.5)
    # Standard deviation of the mean of 40,000 values 0 or 2: 0.005.
    assert abs(float(y.mean()) - 1) < 0.025
    assert abs(float((y / 2).mean()) - 0.5) < 0.0125


def test_each_example_has_a_mask_of_its_own(key):
    """Section 3.2: a mask over (unit, unit) is DropConnect's; dropout has one a row."""
    y = np.asarray(bernoulli(key, jnp.ones((64, 100)), 0.5))
    assert len(np.unique(y != 0, axis=0)) == 64


def test_inverting_a_mask_with_probability_p_forgets_the_rate():
    """Section 3.4: the chain keeps half of the units whatever p is, and remembers."""
    random = np.random.default_rng(0)
    mask, history = np.ones(20_000, bool), []
    for _ in range(200):
        mask = mask ^ (random.random(mask.size) < RATE)
        history.append(mask.copy())
    # Five standard deviations of 20,000 fair coins: 0.018.
    assert abs(history[-1].mean() - 0.5) < 0.018
    lag_one = np.corrcoef(history[-2], history[-1])[0, 1]
    assert abs(lag_one - (1 - 2 * RATE)) < 5 / np.sqrt(mask.size)


def test_fresh_masks_keep_the_rate_and_forget_the_last_mask(key):
    """Section 3.4, as it should be: independent draws for each epoch and example."""
    x = jnp.ones((200, 100))
    first, second = (
        np.asarray(drop_at(f"fc:bernoulli:{RATE}", key, 200, step)("fc", x) != 0)
        for step in (0, 1)
    )
    deviation = np.sqrt(RATE * (1 - RATE) / first.size)
    assert abs(first.mean() - (1 - RATE)) < 5 * deviation
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(first.size)


def test_the_full_network_at_test_is_right_only_with_scaled_training(key):
    """Section 3.1, step 5: the mean over masks of a layer is the full layer."""
    x, weights = np.split(np.asarray(jax.random.normal(key, (6, 4))), [1], axis=1)
    x = x[:, 0]
    masks = np.array(list(itertools.product([0, 1], repeat=6)), np.float32)
    keep = 0.8
    probability = np.prod(np.where(masks == 1, keep, 1 - keep), axis=1)
    unscaled = probability @ ((masks * x) @ weights)
    full = x @ weights
    np.testing.assert_allclose(unscaled, keep * full, rtol=1e-4)
    np.testing.assert_allclose(unscaled / keep, full, rtol=1e-4)


def covariances(key, plan):
    """Of a 2x2 convolution of ones: between two positions, and between two examples."""
    images, kernel = jnp.ones((2, 4, 4, 1)), jnp.ones((2, 2, 1, 1))
    convolve = partial(convolution, padding="VALID")

    def outputs(step):
        drop = drop_at(plan, key, 2, step)
        return drop("conv/kernel", drop("x", images), kernel, convolve)

    y = np.asarray(jax.vmap(outputs)(jnp.arange(ROWS)))[..., 0]
    corner, apart, other = y[:, 0, 0, 0], y[:, 0, 2, 2], y[:, 1, 0, 0]
    return np.cov(corner, apart)[0, 1], np.cov(corner, other)[0, 1], corner.var()


@pytest.mark.parametrize(
    ("plan", "apart", "other"),
    [
        ("x:bernoulli:0.5", 0.0, 0.0),
        ("conv/kernel:bernoulli:0.5", 4.0, 4.0),
        ("conv/kernel:bernoulli(unit='example'):0.5", 4.0, 0.0),
    ],
)
def test_masking_inputs_is_not_masking_weights(key, plan, apart, other):
    """Section 3.3 describes the one and writes the other.

    With a kernel and an image of ones each output has variance p / q times four taps
    either way; what differs is what outputs share: positions share dropped taps, and so
    do examples where the mask is the batch's.
    """
    between_positions, between_examples, variance = covariances(key, plan)
    # The standard error of each over 4,000 masks is about 0.1.
    assert abs(variance - 4.0) < 0.5
    assert abs(between_positions - apart) < 0.5
    assert abs(between_examples - other) < 0.5


@pytest.mark.slow
def test_the_pytorch_network_needs_3136_inputs_and_not_1600():
    """Section 4.2: padding 1 keeps 28x28, so two pools leave 7x7 and not 5x5."""
    sizes = {}
    for name in ("cnn", "cnn_same"):
        model = create(parse_call(name), (28, 28, 1), 10, jax.random.key(0))
        sizes[name] = model.fc.kernel[...].shape[0]
    assert sizes == {"cnn": 64 * 5 * 5, "cnn_same": 64 * 7 * 7}


def test_dropout_before_max_pooling_is_not_scaled_by_the_rate(key):
    """The mean of a maximum over survivors is neither the maximum nor q times it."""
    window, keep = np.array([0.3, 1.2, 2.0, 0.7]), 0.7
    masks = np.array(list(itertools.product([0, 1], repeat=4)))
    probability = np.prod(np.where(masks == 1, keep, 1 - keep), axis=1)
    exact = probability @ (masks * window).max(1)
    ranked = np.sort(window)[::-1]
    assert exact == pytest.approx(sum(keep * (1 - keep) ** np.arange(4) * ranked))
    inverted = exact / keep
    assert abs(inverted - window.max()) > 0.4 and abs(exact - keep * window.max()) > 0.3


@pytest.mark.slow
def test_logits_and_not_probabilities_enter_the_loss():
    """Section 4.1 ends in a softmax; a second one in the loss flattens the gradient."""
    logits = jnp.array([[4.0, 0.0, -2.0]])
    model = create(parse_call("cnn"), (10, 10, 1), 3, jax.random.key(0))
    sums = jnp.exp(model(jnp.ones((2, 10, 10, 1)))).sum(-1)
    assert not np.allclose(sums, np.e) and not np.allclose(sums, 1)

    def loss(x):
        return -jax.nn.log_softmax(x)[0, 1]

    once = jnp.abs(jax.grad(loss)(logits)).max()
    twice = jnp.abs(jax.grad(lambda x: loss(jax.nn.softmax(x)))(logits)).max()
    assert float(once) > 10 * float(twice)
