"""Variants that drop channels and positions: what shares a decision, and how many."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw, pull

KEY = jax.random.key(32)
MAP = jnp.ones((512, 5, 4, 8))


def constant_along(y, axes):
    first = y[tuple(slice(1) if i in axes else slice(None) for i in range(y.ndim))]
    return bool((y == first).all())


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("spatial", (1, 2)),
        ("locked", (1, 2)),
        ("weighted_channel", (1, 2)),
        ("feature_alpha", (1, 2)),
        ("patch", (3,)),
        ("word", (3,)),
        ("drop_path", (1, 2, 3)),
        ("layerdrop", (1, 2, 3)),
        ("drophead", (2, 3)),
        ("cutout", (3,)),
        ("random_erasing", (3,)),
    ],
)
def test_masks_are_constant_along_what_they_share_and_vary_along_the_rest(name, axes):
    options = {"length": 2} if name == "cutout" else {}
    y = draw(name, KEY, MAP, 0.5, **options)
    assert constant_along(y, axes)
    for axis in set(range(4)) - set(axes):
        assert not constant_along(y, (axis,))


def test_spatial_moves_the_mean_of_a_channel_and_bernoulli_does_not():
    """Var of the mean over a map of 20 positions is p / q against p / (20 q): within 5
    standard errors, 4096 channels; independent between channels and examples."""
    rate, count = 0.2, 4096
    for name, positions in (("spatial", 1), ("bernoulli", 20)):
        mean = np.float64(draw(name, KEY, MAP, rate).mean((1, 2)))
        variance = rate / (1 - rate) / positions
        fourth = ((mean - 1) ** 4).mean()
        error = np.sqrt((fourth - variance**2) / count)
        assert abs(((mean - 1) ** 2).mean() - variance) < 5 * error
        for pair in ((mean[:, 1:], mean[:, :-1]), (mean[1:], mean[:-1])):
            products = (pair[0] - 1) * (pair[1] - 1)
            assert abs(products.mean()) < 5 * variance / np.sqrt(products.size)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 20), (0.3, 14), (0.9, 2), (1.0, 1)])
def test_patch_keeps_a_fixed_number_of_tokens(rate, kept):
    y = draw("patch", KEY, jnp.ones((64, 20, 3)), rate)
    np.testing.assert_array_equal(y.sum((1, 2)), 3 * kept)


def test_patch_keeps_the_prefix_and_every_other_token_equally_often():
    """Inclusion 10/20 of each of 20 tokens over 4096 rows, within 5 standard errors."""
    y = draw("patch", KEY, jnp.ones((4096, 22, 1)), 0.5, prefix=2)[..., 0]
    assert (y[:, :2] == 1).all()
    assert abs(y[:, 2:].mean(0) - 0.5).max() < 5 * 0.5 / 64
    with pytest.raises(ValueError, match="prefix=22"):
        draw("patch", KEY, jnp.ones((2, 22, 1)), 0.5, prefix=22)


@pytest.mark.slow
def test_weighted_channel_keeps_the_sum_of_scores_and_a_fixed_number():
    x = jax.random.uniform(KEY, (256, 5, 4, 8))
    for rate, kept in ((0.0, 8), (0.25, 6), (0.75, 2), (1.0, 1)):
        y = draw("weighted_channel", KEY, x, rate)
        np.testing.assert_array_equal((y != 0).any((1, 2)).sum(1), kept)
        np.testing.assert_allclose(y.sum((1, 2, 3)), x.sum((1, 2, 3)), rtol=1e-5)


def test_weighted_channel_against_enumeration():
    """E[y] of channels (1, 2, 4, 0.5) of which 2 are kept, drawn one after the other in
    proportion to their scores; within 5 standard errors of 8192 rows."""
    score = np.asarray([1.0, 2.0, 4.0, 0.5])
    expected = np.zeros(4)
    for one, two in permutations(range(4), 2):
        chance = score[one] / score.sum() * score[two] / (score.sum() - score[one])
        kept = [one, two]
        expected[kept] += chance * score[kept] * score.sum() / score[kept].sum()
    x = jnp.broadcast_to(jnp.float32(score), (8192, 3, 4))
    y = np.float64(draw("weighted_channel", KEY, x, 0.5)[:, 0])
    assert (abs(y.mean(0) - expected) < 5 * y.std(0) / np.sqrt(8192)).all()


def test_weighted_channel_on_features_that_vanish_or_are_negative():
    for x in (jnp.zeros((4, 3, 8)), -jnp.ones((4, 3, 8))):
        y, (gradient,) = pull("weighted_channel", KEY, x, 0.5)
        assert jnp.isfinite(y).all() and jnp.isfinite(gradient).all()
