"""Recurrent and attention variants: what stays, what is hidden, what sums to one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw, pull

from dropout import VARIANTS

KEY = jax.random.key(38)


def test_locked_drops_the_same_features_at_all_times():
    y = draw("locked", KEY, jnp.ones((32, 9, 16)), 0.5)
    assert (y == y[:, :1]).all()
    assert not (y == y[:1]).all() and not (y == y[..., :1]).all()


def test_masks_a_step_and_a_sequence_are_declared():
    per = {name: VARIANTS[name].per for name in ("locked", "recurrent", "zoneout")}
    assert per == {"locked": "sequence", "recurrent": "step", "zoneout": "step"}


def test_zoneout_gives_the_old_or_the_new_state():
    """Each unit is one or the other, old with probability `rate` within 5 standard
    errors; the gradient goes to the one that was chosen."""
    new, old = jax.random.normal(KEY, (2, 512, 64))
    y, (to_new, to_old) = pull("zoneout", KEY, new, 0.3, old)
    kept = np.asarray(y == old)
    np.testing.assert_array_equal(y, jnp.where(kept, old, new))
    assert abs(kept.mean() - 0.3) < 5 * np.sqrt(0.21 / kept.size)
    np.testing.assert_array_equal(to_old, kept)
    np.testing.assert_array_equal(to_new, ~kept)
    np.testing.assert_array_equal(draw("zoneout", KEY, new, 1.0, old), old)


def test_recurrent_dropout_never_erases_memory():
    """With the forget gate open and the input gate shut the cell stays as it is."""
    cell, candidate = jnp.ones((4, 8)), jnp.ones((4, 8))
    for rate in (0.5, 1.0):
        dropped = draw("recurrent", KEY, candidate, rate)
        np.testing.assert_array_equal(1.0 * cell + 0.0 * dropped, cell)


def test_attention_has_a_mask_for_each_head_and_example():
    weights = jnp.ones((16, 4, 6, 6))
    each = draw("attention", KEY, weights, 0.5)
    np.testing.assert_array_equal(each, draw("bernoulli", KEY, weights, 0.5))
    shared = draw("attention", KEY, weights, 0.5, heads="shared")
    assert (shared == shared[:, :1]).all() and not (shared == shared[:1]).all()


@pytest.mark.slow
def test_dropkey_rows_sum_to_one():
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        logits = jax.random.normal(KEY, (8, 2, 5, 7), jnp.float32).astype(dtype)
        for rate in (0.3, 0.9, 1.0):
            hidden = draw("dropkey", KEY, logits, rate)
            weights = jax.nn.softmax(hidden.astype(jnp.float32))
            np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
            seen = hidden == logits
            assert (weights[~seen & seen.any(-1, keepdims=True)] == 0).all()
    np.testing.assert_allclose(weights, 1 / 7, rtol=1e-5)


def test_drophead_keeps_the_sum_of_scales():
    y = draw("drophead", KEY, jnp.ones((256, 6, 3, 3)), 0.4)
    assert (y == y[:, :, :1, :1]).all()
    sums = np.asarray(y[:, :, 0, 0].sum(1))
    np.testing.assert_allclose(sums[sums > 0], 6, rtol=1e-6)
    assert (sums > 0).mean() > 0.95


def test_word_dropout_drops_whole_tokens_unscaled():
    y = draw("word", KEY, jnp.full((64, 10, 4), 2.0), 0.5)
    assert (y == y[..., :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}
