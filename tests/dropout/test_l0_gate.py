"""L0 gates against their published distribution, which is integrated numerically."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

from dropout import VARIANTS
from dropout.variants.learned.l0_gate import l0_init, l0_penalty, l0_prune

KEY = jax.random.key(39)
ROWS = 65536


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def gates(log_alpha):
    """Gates at a million equally likely u, as the paper writes them."""
    u = (np.arange(10**6) + 0.5) / 10**6
    s = sigmoid((np.log(u) - np.log(1 - u) + log_alpha) / (2 / 3))
    return np.clip(s * 1.2 - 0.1, 0, 1)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_gate_is_0_or_1_or_between_as_often_as_published(rate):
    """P(z = 0) is the rate, P(z = 1) and E[z] those of the integral; |z| < 5; the mask
    is alike along the map."""
    log_alpha = (2 / 3) * np.log(0.1 / 1.1) - np.log(rate / (1 - rate))
    expected = gates(log_alpha)
    y = -np.asarray(draw("l0_gate", KEY, -jnp.ones((ROWS, 2, 3)), rate))
    assert (y == y[:, :1]).all()
    z = y[:, 0]
    for found, chance in (
        ((z == 0).mean(0), rate),
        ((z == 1).mean(0), (expected == 1).mean()),
    ):
        assert np.abs(found - chance).max() < 5 * np.sqrt(chance * (1 - chance) / ROWS)
    error = expected.std() / np.sqrt(ROWS)
    assert np.abs(z.mean(0) - expected.mean()).max() < 5 * error


def test_a_gate_at_test_has_no_noise_and_closes_whole_channels():
    parameters = {"log_alpha": jnp.asarray([-3.0, 0.0, 4.0])}
    x = jnp.asarray([[-2.0, -2.0, -2.0]])
    y = VARIANTS["l0_gate"].evaluate(x, parameters)
    np.testing.assert_allclose(y, [[0.0, -1.0, -2.0]], atol=1e-6)
    kernel = jnp.ones((2, 2, 6, 4))  # two positions of three channels
    pruned = np.asarray(l0_prune(parameters, kernel))
    kept = np.asarray([0, 1, 1, 0, 1, 1]).reshape(6, 1)
    np.testing.assert_array_equal(pruned, np.broadcast_to(kept, kernel.shape))


def test_the_penalty_is_the_expected_number_of_open_gates():
    parameters = l0_init(jnp.float32(0.3), jnp.zeros((5, 7)))
    found = l0_penalty(parameters, jnp.ones((7, 2)), 7, weight=2.0)
    np.testing.assert_allclose(found, 2 * 7 * 0.7, rtol=1e-6)
