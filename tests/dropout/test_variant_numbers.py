"""Numbers worked out by hand, at odd sizes and with negative inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK, draw, max_pool

from dropout import VARIANTS
from dropout.variants.learned.concrete import concrete_penalty
from dropout.variants.learned.sparse_variational import sparse_penalty, sparse_rate
from dropout.variants.regions import rectangles

KEY = jax.random.key(3)


def test_rectangles_have_their_height_first_and_uniform_aspects():
    """Of one area, 100 pixels, with h / w from 1/2 to 2 in 64 equal steps, of which two
    thirds are above 1 (half of them, if the aspect were log-uniform)."""
    sides = rectangles(100, 40, 0.025, 0.025, 0.5)
    height, width = sides.T
    expected = 0.5 + 1.5 * (np.arange(64) + 0.5) / 64
    np.testing.assert_array_equal(height[:64], np.round(np.sqrt(100 * expected)))
    np.testing.assert_array_equal(width[:64], np.round(np.sqrt(100 / expected)))
    assert (expected > 1).sum() == 43
    tall = rectangles(20, 400, 0.1, 0.4, 0.3)
    assert tall[:, 0].max() == 19 and tall[:, 1].max() > 19


@pytest.mark.slow
def test_erasing_with_noise_differs_between_channels():
    x = jnp.full((16, 24, 24, 3), 50.0)
    y = draw("random_erasing", KEY, x, 1.0, fill="noise")
    erased = np.asarray(y)[np.asarray(y[..., 0] != 50)]
    assert len(erased) > 500
    assert abs(np.corrcoef(erased.T) - np.eye(3)).max() < 5 / np.sqrt(len(erased))


@pytest.mark.slow
def test_a_negative_channel_counts_as_inactive():
    """Of two channels one is kept at rate 0.5, which is never the negative one."""
    x = jnp.stack([jnp.full((512, 3), 0.5), jnp.full((512, 3), -4.0)], -1)
    y = np.asarray(draw("weighted_channel", KEY, x, 0.5))
    assert (y[..., 1] == 0).all()
    np.testing.assert_allclose(y[..., 0], 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "rate"),
    [
        pytest.param(4, 0.1, marks=pytest.mark.slow),
        pytest.param(10, 0.25, marks=pytest.mark.slow),
        (3, 0.5),
    ],
)
def test_fractions_of_channels_and_tokens_are_rounded_by_chance(count, rate):
    """The mean number dropped is rate * count, within 5 standard errors."""
    for name, shape in (("weighted_channel", (4096, 2, count)),
                        ("patch", (4096, count, 2))):  # fmt: skip
        y = np.asarray(draw(name, KEY, jnp.ones(shape), rate))
        dropped = (y == 0).mean((1, 2)) * count
        below = np.floor(rate * count)
        assert set(np.round(dropped, 3)) == {below, below + 1}
        share = rate * count - below
        error = np.sqrt(share * (1 - share) / 4096)
        assert abs(dropped.mean() - rate * count) < 5 * error


@pytest.mark.parametrize(
    ("drop", "shape"), [("weight", (1, 1, 7, 5)), ("unit", (1, 7, 5))]
)
def test_candidates_are_rounded_down(drop, shape):
    """floor(0.5 * 7) = 3 of 7 weights of each output, floor(0.5 * 5) = 2 of 5 units."""
    kernel = jax.random.normal(KEY, shape)
    y = draw("targeted", KEY, kernel, 1.0, target=0.5, drop=drop)
    zeros = np.asarray(y == 0).reshape(7, 5)
    if drop == "weight":
        assert (zeros.sum(0) == 3).all()
        size = np.abs(np.asarray(kernel)).reshape(7, 5)
        assert (np.sort(size, 0)[2] == np.where(zeros, size, 0).max(0)).all()
    else:
        assert sorted(zeros.sum(0)) == [0, 0, 0, 7, 7]


def test_the_regulariser_of_concrete_dropout():
    """0.1^2 * (3 * 4) / (1 - 1/5) + 3 (0.2 ln 0.2 + 0.8 ln 0.8)."""
    parameters = {"logit": jnp.log(jnp.float32(0.25))}
    found = concrete_penalty(parameters, jnp.ones((3, 4)), 9, length_scale=0.1)
    np.testing.assert_allclose(found, 0.15 - 1.501207, rtol=1e-5)
    default = concrete_penalty(parameters, 1e4 * jnp.ones((3, 4)), 9)
    np.testing.assert_allclose(default, 15 - 1.501207, rtol=1e-5)


def test_log_alpha_is_bounded_by_8():
    """At log alpha 6 and 20, where a bound of 3.5 would be seen, and one of 8 is."""
    kernel = jnp.ones((1, 1))
    for log_variance, log_alpha in ((6.0, 6.0), (20.0, 8.0)):
        parameters = {"log_variance": jnp.full((1, 1), log_variance)}
        rate = 1 / (1 + np.exp(-log_alpha))
        np.testing.assert_allclose(sparse_rate(parameters, kernel), rate, rtol=1e-6)
        penalty = 0.63576 / (1 + np.exp(1.8732 + 1.48695 * log_alpha))
        penalty += np.log1p(np.exp(-log_alpha)) / 2
        found = sparse_penalty(parameters, kernel, 1)
        np.testing.assert_allclose(found, penalty, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("rate", [0.0, 0.6, 1.0])
def test_a_window_without_a_positive_value_gives_its_largest(rate):
    x = -1 - jax.random.uniform(KEY, (4, 6, 4, 3))
    layer = partial(max_pool, window=(2, 2), strides=(2, 2), padding="VALID")
    entry = VARIANTS["stochastic_pool"]

    @partial(jax.jit, compiler_options=QUICK)
    def pooled(rate):
        return entry(KEY, x, rate, layer), entry.evaluate(x, rate, layer)

    drawn, at_test = pooled(rate)
    np.testing.assert_array_equal(drawn, layer(x))
    np.testing.assert_allclose(at_test, layer(x), rtol=1e-6)
