"""Pooling variants, against enumeration of all masks and all choices of a window."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK, max_pool

from dropout import VARIANTS

KEY = jax.random.key(35)
POOLS = {
    "2x2": partial(max_pool, window=(2, 2), strides=(2, 2), padding="VALID"),
    "cropped": partial(max_pool, window=(2, 3), strides=(2, 3), padding="VALID"),
    "overlapping": partial(max_pool, window=(3, 3), strides=(2, 2), padding="SAME"),
}


@partial(jax.jit, static_argnums=(0, 3), compiler_options=QUICK)
def pooled(name, x, rate, pool):
    return VARIANTS[name](KEY, x, rate, pool)


@partial(jax.jit, static_argnums=(0, 3), compiler_options=QUICK)
def at_test(name, x, rate, pool):
    return VARIANTS[name].evaluate(x, rate, pool)


VALUES = np.float64([0.3, 1.2, 2.0, 0.7])


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("lowest", [0.0, -1.0])
@pytest.mark.parametrize("name", ["max_pool", "stochastic_pool", "mixed_pool"])
def test_windows_are_those_of_the_pool(name, pool, lowest):
    """At rate 0 both the draw and the form at test are the pool itself, also where all
    values are negative."""
    x = jax.random.uniform(KEY, (3, 7, 7, 2)) + lowest
    plain = pool(x)
    np.testing.assert_array_equal(pooled(name, x, 0.0, pool), plain)
    np.testing.assert_allclose(at_test(name, x, 0.0, pool), plain, rtol=1e-6)


def test_max_pool_at_test_is_the_mean_over_all_masks():
    rate = 0.3
    expected = sum(
        rate ** (4 - sum(mask)) * (1 - rate) ** sum(mask) * (VALUES * mask).max()
        for mask in product((0, 1), repeat=4)
    )
    x = jnp.float32(VALUES).reshape(1, 2, 2, 1)
    y = at_test("max_pool", x, rate, POOLS["2x2"])
    np.testing.assert_allclose(y.item(), expected, rtol=1e-6)
    assert abs(expected - 1.70177) < 1e-5


@pytest.mark.parametrize("shift", [-0.5, -1.0, -3.0])
def test_max_pool_at_test_is_the_mean_over_all_masks_of_any_sign(shift):
    rate, values = 0.3, VALUES + shift
    expected = sum(
        rate ** (4 - sum(mask)) * (1 - rate) ** sum(mask) * (values * mask).max()
        for mask in product((0, 1), repeat=4)
    )
    x = jnp.float32(values).reshape(1, 2, 2, 1)
    y = at_test("max_pool", x, rate, POOLS["2x2"])
    np.testing.assert_allclose(y.item(), expected, rtol=1e-5)


def test_stochastic_pool_picks_in_proportion():
    """Frequencies of the four values by a chi-square statistic (3 degrees of freedom,
    p > 0.001), and of the largest at rate 0.5 within 5 standard errors."""
    rows = 16384
    x = jnp.broadcast_to(jnp.float32(VALUES).reshape(1, 2, 2, 1), (rows, 2, 2, 1))
    y = np.asarray(pooled("stochastic_pool", x, 1.0, POOLS["2x2"])).ravel()
    counts = np.asarray([(y == np.float32(value)).sum() for value in VALUES])
    expected = rows * VALUES / VALUES.sum()
    assert counts.sum() == rows
    assert ((counts - expected) ** 2 / expected).sum() < 16.3
    half = np.asarray(pooled("stochastic_pool", x, 0.5, POOLS["2x2"])).ravel()
    chance = 0.5 + 0.5 * 2.0 / VALUES.sum()
    largest = (half == 2).mean()
    assert abs(largest - chance) < 5 * np.sqrt(chance * (1 - chance) / rows)


def test_stochastic_pool_on_windows_of_zeros_and_of_one_value():
    """Values are right and gradients finite, in the draw and at test."""
    variant = VARIANTS["stochastic_pool"]
    for rule in (partial(variant, KEY), variant.evaluate):
        total = partial(_total, rule)
        function = jax.jit(jax.value_and_grad(total), compiler_options=QUICK)
        for value in (0.0, 3.0):
            x = jnp.full((2, 4, 4, 1), value).at[0, 0, 0].set(0.0)
            found, gradient = function(x)
            assert found == 8 * value
            assert jnp.isfinite(gradient).all()


def _total(rule, x):
    return rule(x, 1.0, POOLS["2x2"]).sum()


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_a_window_without_a_positive_value_gives_its_largest(rate):
    """In training and at test: there is no probability in proportion to it."""
    values = jnp.float32([[-3, -0.5, -2, -1], [0, -1, -2, 0], [-4, -4, -5, -6]])
    x = values.reshape(3, 2, 2, 1)
    expected = [-0.5, 0, -4]
    for y in (
        pooled("stochastic_pool", x, rate, POOLS["2x2"]),
        at_test("stochastic_pool", x, rate, POOLS["2x2"]),
    ):
        np.testing.assert_allclose(y.ravel(), expected, rtol=1e-6)


def test_pixels_of_padding_can_be_named():
    x = jax.random.uniform(KEY, (2, 6, 6, 1))
    named = partial(max_pool, window=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    y = pooled("stochastic_pool", x, 0.0, named)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [
        [padded[:, i : i + 3, j : j + 3].max((1, 2)) for j in (0, 2, 4)]
        for i in (0, 2, 4)
    ]
    np.testing.assert_array_equal(y, np.moveaxis(expected, 2, 0))


def test_max_pool_at_test_does_not_count_the_padding():
    """A window that sees one value in the map passes a negative one on when it is kept,
    and so has the mean (1 - rate) times the value."""
    x = jnp.full((1, 2, 2, 1), -2.0)
    pool = partial(max_pool, window=(2, 2), strides=(1, 1), padding="SAME")
    y = np.asarray(at_test("max_pool", x, 0.3, pool))[0, :, :, 0]
    expected = -2 * 0.7 ** np.asarray([[4, 2], [2, 1]])
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_mixed_pool_takes_the_mean_with_its_rate(pool):
    """Each window gives its largest value or its mean, here that of an average pooling
    written with a sum and a count; the mean in a share `rate`, |z| < 5."""
    rate, rows = 0.3, 4096
    one = jax.random.normal(KEY, (1, 7, 7, 2))
    keywords = pool.keywords
    window, strides = (1, *keywords["window"], 1), (1, *keywords["strides"], 1)
    total, count = (
        np.asarray(
            jax.lax.reduce_window(
                a, 0.0, jax.lax.add, window, strides, keywords["padding"]
            )
        )
        for a in (one, jnp.ones_like(one))
    )
    mean, largest = (total / count)[0], np.asarray(pool(one))[0]
    y = np.asarray(pooled("mixed_pool", jnp.repeat(one, rows, 0), rate, pool))
    is_mean = np.abs(y - mean) < 1e-5
    np.testing.assert_array_equal(
        y[~is_mean], np.broadcast_to(largest, y.shape)[~is_mean]
    )
    several = np.abs(mean - largest) > 1e-4
    share = is_mean[:, several].mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / is_mean[:, several].size)
    found = np.asarray(at_test("mixed_pool", one, rate, pool))[0]
    np.testing.assert_allclose(found, rate * mean + (1 - rate) * largest, atol=1e-5)
