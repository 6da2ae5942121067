"""Path variants: coefficients forward and backward."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from variant_cases import draw, pull

from dropout import VARIANTS

KEY = jax.random.key(37)
ROWS = 8192
ONES = jnp.ones((ROWS, 2, 3))


def coefficients(name, rate, *others):
    """The forward and the backward factor of each row."""
    y, (gradient, *_) = pull(name, KEY, ONES, rate, *others)
    assert (y == y[:, :1, :1]).all() and (gradient == gradient[:, :1, :1]).all()
    return np.float64(y[:, 0, 0]), np.float64(gradient[:, 0, 0])


def test_drop_path_drops_whole_branches():
    """Zero or 1 / q for a whole example, kept with probability q: 5 standard errors."""
    forward, backward = coefficients("drop_path", 0.2)
    assert set(np.unique(forward)) == {0.0, 1.25}
    np.testing.assert_array_equal(forward, backward)
    assert abs((forward > 0).mean() - 0.8) < 5 * np.sqrt(0.16 / ROWS)
    np.testing.assert_array_equal(draw("drop_path", KEY, ONES, 1.0), 0)


def test_layerdrop_does_not_scale():
    forward, _ = coefficients("layerdrop", 0.2)
    assert set(np.unique(forward)) == {0.0, 1.0}
    assert VARIANTS["layerdrop"].unit == "batch"


def test_shakedrop_coefficients():
    """Forward in {1} and [-1, 1], backward in {1} and [0, 1], shaken together but
    otherwise independent; mean and variance of the formula to 5 standard errors."""
    rate = 0.4
    forward, backward = coefficients("shakedrop", rate)
    shaken = forward != 1
    np.testing.assert_array_equal(shaken, backward != 1)
    assert abs(shaken.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / ROWS)
    a, c = forward[shaken], backward[shaken]
    assert a.min() < -0.99 and 0.99 < a.max() < 1
    assert 0 <= c.min() < 0.01 and 0.99 < c.max() < 1
    assert abs(np.corrcoef(a, c)[0, 1]) < 5 / np.sqrt(len(a))
    variance = (1 - rate) + rate / 3 - (1 - rate) ** 2
    squares = np.square(forward - (1 - rate))
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(ROWS)


def test_shake_shake_mixes_and_shares_gradients_apart():
    """Forward a x1 + (1 - a) x2, a ~ U(0, 1); gradients b and 1 - b with an independent
    b ~ U(0, 1); variance 1/12 of the difference squared. 5 standard errors."""
    mix = partial(draw, "shake_shake")
    second = jnp.zeros_like(ONES)
    forward, backward = coefficients("shake_shake", 1.0, second)
    for u in (forward, backward):
        assert 0 <= u.min() < 0.01 and 0.99 < u.max() <= 1
        assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * ROWS)
        assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / ROWS)
    assert abs(np.corrcoef(forward, backward)[0, 1]) < 5 / np.sqrt(ROWS)
    _, gradients = pull("shake_shake", KEY, ONES, 1.0, second)
    np.testing.assert_allclose(gradients[0] + gradients[1], 1, rtol=1e-6)
    np.testing.assert_allclose(mix(KEY, ONES, 1.0, ONES), 1, rtol=1e-6)
    narrow, _ = coefficients("shake_shake", 0.1, second)
    assert 0.45 <= narrow.min() < narrow.max() <= 0.55
