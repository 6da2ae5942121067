"""ADL and jumpout, against their formulas written down once more in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

KEY = jax.random.key(38)


def test_adl_drops_the_peaks_or_highlights():
    """Of 16384 maps with values of any sign, 60 % lose exactly the positions whose mean
    over channels reaches 0.8 of the highest, |z| < 5; the others are multiplied by the
    sigmoid of that mean."""
    rows, rate = 16384, 0.6
    one = np.random.default_rng(1).normal(0.3, 1, (5, 7, 3)).astype(np.float32)
    mean = one.mean(-1, keepdims=True)
    dropped = np.where(mean >= 0.8 * mean.max(), 0, one)
    highlighted = one / (1 + np.exp(-mean))
    assert 0 < (dropped == 0).mean() < 0.5
    y = np.asarray(draw("adl", KEY, jnp.broadcast_to(one, (rows, 5, 7, 3)), rate))
    is_dropped = (y == dropped).all((1, 2, 3))
    for image in y[~is_dropped][:20]:
        np.testing.assert_allclose(image, highlighted, rtol=1e-6)
    assert np.abs(y[~is_dropped] - highlighted).max() < 1e-6
    deviation = np.sqrt(rate * (1 - rate) / rows)
    assert abs(is_dropped.mean() - rate) < 5 * deviation


@pytest.mark.slow
def test_adl_without_importance_leaves_the_others_and_falls_with_its_threshold():
    x = jax.random.normal(KEY, (64, 5, 7, 3))
    low, high = (
        np.asarray(draw("adl", KEY, x, 0.5, threshold=t, otherwise="plain"))
        for t in (0.5, 0.9)
    )
    for y in (low, high):
        np.testing.assert_array_equal(y[y != 0], np.asarray(x)[y != 0])
    assert ((high == 0) <= (low == 0)).all() and (high != low).any()
    with pytest.raises(ValueError, match="threshold=1.5"):
        draw("adl", KEY, x, 0.5, threshold=1.5)


@pytest.mark.parametrize("active", [1.0, 0.5])
def test_jumpout_drops_the_same_share_of_active_elements(active):
    """Of all elements the mean of a half normal distribution, rate sqrt(2 / pi), is
    active and dropped, whatever the share of active ones; |z| < 5 over the examples."""
    rows, size, rate = 16384, 400, 0.05
    x = jnp.where(jnp.arange(size) < int(active * size), 2.0, -3.0)
    y = np.asarray(draw("jumpout", KEY, jnp.broadcast_to(x, (rows, size)), rate))
    dropped = (y[:, : int(active * size)] == 0).sum(1) / size
    error = dropped.std() / np.sqrt(rows)
    assert abs(dropped.mean() - rate * math.sqrt(2 / math.pi)) < 5 * error
    assert dropped.std() > 0.5 * rate  # one chance for each example


def test_jumpout_scales_by_a_power_of_its_chance():
    """At a rate far above the cap every example has the capped chance, 0.4, and what
    it keeps is divided by 0.6^0.5; the share dropped is 0.4, |z| < 5."""
    x = -jnp.ones((64, 1000))  # none is active
    y = np.asarray(draw("jumpout", KEY, x, 1.0, cap=0.4, power=0.5))
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], -1 / math.sqrt(0.6), rtol=1e-6)
    assert abs(dropped.mean() - 0.4) < 5 * math.sqrt(0.24 / y.size)
    with pytest.raises(ValueError, match="cap=0.0"):
        draw("jumpout", KEY, x, 0.5, cap=0.0)
