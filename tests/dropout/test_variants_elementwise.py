"""Elementwise variants: their distributions, constants and multipliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from variant_cases import draw, pull

from dropout import JaxBits
from dropout.bits import normal, row_seeds
from dropout.variants.elementwise import alpha_mean

KEY = jax.random.key(31)
ONES = jnp.ones((64, 4096))
COUNT = ONES.size


def z_of_variance(samples, variance, fourth):
    """Deviation of a sample variance around 1, given the true fourth moment."""
    error = np.sqrt(max(fourth - variance**2, 0) / samples.size) + 1e-6
    return abs((np.square(np.float64(samples) - 1)).mean() - variance) / error


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_variances(rate):
    """Within 5 standard errors of a sample of 262144."""
    q = 1 - rate
    v = rate / q
    fourth = {
        "bernoulli": (v, rate + rate**4 / q**3),
        "gaussian": (v, 3 * v**2),
        "uniform": (rate**2 / 3, rate**4 / 5),
    }
    for name, (variance, moment) in fourth.items():
        y = draw(name, KEY, ONES, rate)
        assert z_of_variance(np.asarray(y), variance, moment) < 5, name


def test_bernoulli_is_zero_or_scaled_and_its_gradient_is_the_multiplier():
    x = jax.random.uniform(KEY, (16, 50), minval=0.5, maxval=2)
    y, (multiplier,) = pull("bernoulli", KEY, x, 0.3)
    kept = y != 0
    np.testing.assert_allclose(y, jnp.where(kept, x / 0.7, 0), rtol=1e-6)
    np.testing.assert_allclose(multiplier, np.asarray(kept) / 0.7, rtol=1e-6)


@pytest.mark.parametrize("key", [KEY, JaxBits(KEY)], ids=["hash", "jax"])
def test_normal_is_normal(key):
    """Moments 1 to 8 within 5 standard errors; Kolmogorov-Smirnov p > 0.001, which at
    65536 samples allows for the stated 3.1e-4 of the distribution function."""
    z = np.float64(normal(row_seeds(key, 64), (64, 4096)))
    for power, moment in enumerate((1, 0, 1, 0, 3, 0, 15, 0, 105)):
        error = (z**power).std() / np.sqrt(z.size) + 1e-12
        assert abs((z**power).mean() - moment) < 5 * error, power
    assert stats.kstest(z.ravel()[:65536], "norm").pvalue > 1e-3
    assert 4 < abs(z).max() < 5.4


def test_normal_is_continuous_and_independent_between_neighbours():
    z = np.float64(normal(row_seeds(KEY, 64), (64, 4096)))
    assert len(np.unique(z)) > 0.4 * z.size
    for lag in (1, 2, 4, 16, 64):
        correlation = (z[:, :-lag] * z[:, lag:]).mean()
        assert abs(correlation) < 5 / np.sqrt(z.size), lag


def test_uniform_stays_in_its_range():
    y = draw("uniform", KEY, ONES, 0.3)
    assert 0.7 <= y.min() < 0.7001 and 1.2999 < y.max() <= 1.3


# A, B and the value of dropped units, computed from the paper's formulas in double
# precision.
ALPHA = {
    0.05: (0.954844, 0.083936, -1.594774),
    0.1: (0.921285, 0.161971, -1.457739),
    0.2: (0.878904, 0.309040, -1.236160),
    0.5: (0.886405, 0.779194, -0.779194),
}


@pytest.mark.parametrize("rate", ALPHA)
@pytest.mark.parametrize("name", ["alpha", "feature_alpha"])
def test_alpha(name, rate):
    """Its constants; and mean 0, variance 1 kept within 5 standard errors."""
    scale, shift, dropped = ALPHA[rate]
    x = jax.random.normal(jax.random.key(1), (4096, 4, 32))
    y, (multiplier,) = pull(name, KEY, x, rate)
    expected = jnp.where(multiplier == 0, dropped, scale * x + shift)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(multiplier[multiplier != 0], scale, rtol=1e-5)
    independent = y.size if name == "alpha" else y.size / 4
    assert abs(y.mean()) < 5 / np.sqrt(independent)
    fourth = np.float64(y**4).mean()
    assert abs(np.float64(y**2).mean() - 1) < 5 * np.sqrt((fourth - 1) / independent)
    if name == "feature_alpha":
        assert ((multiplier == 0) == (multiplier[:, :1] == 0)).all()


@pytest.mark.parametrize("rate", ALPHA)
def test_the_mean_of_alpha(rate):
    """Of what is kept and what is dropped, weighed by their chances."""
    scale, shift, dropped = ALPHA[rate]
    x = np.float32([[-2.0, 0.0, 0.5, 3.0]])
    expected = (1 - rate) * (scale * x + shift) + rate * dropped
    np.testing.assert_allclose(alpha_mean(jnp.asarray(x), rate), expected, atol=1e-5)


def test_max_dropout_keeps_what_is_small():
    x = jax.random.normal(KEY, (5, 6, 7))
    y = draw("max_dropout", KEY, x, 0.3)
    lowest = x.min((1, 2), keepdims=True)
    height = x.max((1, 2), keepdims=True) - lowest
    np.testing.assert_array_equal(y != 0, (x - lowest) / height <= 0.7)
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    np.testing.assert_array_equal(draw("max_dropout", KEY, x[2:3], 0.3)[0], y[2])
    constant = jnp.ones((2, 3))
    np.testing.assert_array_equal(draw("max_dropout", KEY, constant, 1.0), constant)


def test_normal_noise_at_a_traced_rate_of_1_is_zero():
    """Its variance, rate / (1 - rate), has no bound there; a concrete 1 is refused."""
    x = -jnp.ones((2, 5))
    y = draw("gaussian", KEY, x, jnp.float32(1))
    np.testing.assert_array_equal(y, jnp.zeros((2, 5)))
