"""Fixed masks, gates, slopes and mixed pools, beside those of other libraries.

No library at hand has hide-and-seek, attention-based dropout, jumpout, nested
dropout, stochastic pooling or mixout.
"""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw, max_pool

from dropout import VARIANTS
from dropout.variants.learned.l0_gate import l0_init, l0_penalty
from parity.peers import ALPHA, same_distribution
from parity.recorded import recorded
from parity.variant_inputs import ENSEMBLE, GATE_RATE, MAPS, POINTS, SLOPES

pytestmark = pytest.mark.slow

KEY = jax.random.key(73)


def theirs(case):
    return recorded("gates", case)


def test_masksembles():
    """Each mask keeps 128 of 240 channels, and a pair shares as many on average: |z| <
    5. Theirs draws masks until together they keep 240."""
    channels, count = ENSEMBLE["c"], ENSEMBLE["n"]
    keys = jnp.repeat(jax.random.split(KEY, 64), count)
    numbers = jnp.tile(jnp.arange(count), 64)
    rate = 1 - 128 / channels
    y = draw("masksembles", keys, jnp.ones((64 * count, channels)), rate, numbers)
    masks = np.asarray(y).reshape(64, count, channels) != 0
    pairs = [masks[:, a] & masks[:, b] for a, b in combinations(range(count), 2)]
    shared, others = np.stack(pairs, 1).sum(-1), theirs("masksembles")
    assert (masks.sum(-1) == 128).all() and (others["kept"] == 128).all()
    means = [pairs.mean(1) for pairs in (shared, others["shared"])]
    error = np.hypot(*(mean.std() / np.sqrt(len(mean)) for mean in means))
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


def test_l0_gate():
    """One distribution, with as many zeros and ones, and one penalty."""
    ours = draw("l0_gate", KEY, jnp.ones((65536, 1)), GATE_RATE)
    others = theirs("l0_gate")
    assert same_distribution(ours, others["gates"]) > ALPHA
    for gates in (np.asarray(ours), others["gates"]):
        assert abs((gates == 0).mean() - GATE_RATE) < 5 * np.sqrt(0.21 / gates.size)
    parameters = l0_init(jnp.float32(GATE_RATE), jnp.ones((1, 1)))
    penalty = l0_penalty(parameters, jnp.ones((1, 1)), 1)
    np.testing.assert_allclose(penalty, others["open"], rtol=1e-5)


def test_rrelu():
    entry, others = VARIANTS["rrelu"], theirs("rrelu")
    options = dict(zip(("low", "high"), SLOPES, strict=True))
    slopes = -entry(KEY, -jnp.ones((6144, 1)), 1.0, jax.nn.relu, **options)
    assert same_distribution(slopes, others["slopes"]) > ALPHA
    at_test = entry.evaluate(jnp.asarray(POINTS), 1.0, jax.nn.relu, **options)
    np.testing.assert_allclose(at_test, others["at test"], rtol=1e-6)


def test_drop_activation_at_test_is_a_leaky_rectifier():
    at_test = VARIANTS["drop_activation"].evaluate(
        jnp.asarray(POINTS), 0.05, jax.nn.relu
    )
    expected = theirs("drop_activation")["at test"]
    np.testing.assert_allclose(at_test, expected, rtol=1e-6)


def test_mixed_pool_at_test_is_half_the_mean_and_half_the_largest():
    pool = partial(max_pool, window=(2, 3), strides=(2, 3), padding="VALID")
    at_test = VARIANTS["mixed_pool"].evaluate(jnp.asarray(MAPS), 0.5, pool)
    expected = theirs("mixed_pool")["at test"]
    np.testing.assert_allclose(at_test, expected, rtol=1e-5, atol=1e-6)
