"""Variants in the place of a non-linearity, against their definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK

from dropout import VARIANTS, bind, parse, resolve

KEY = jax.random.key(40)
X = jnp.tile(jnp.asarray([-3.0, -0.5, 0.0, 0.25, 2.0]), (400, 67))
drop_activation, rrelu = VARIANTS["drop_activation"], VARIANTS["rrelu"]


@partial(jax.jit, static_argnames="name", compiler_options=QUICK)
def drawn(name, rate):
    entry = VARIANTS[name]
    y, pull = jax.vjp(lambda x: entry(KEY, x, rate, jnp.tanh), X)
    return y, pull(jnp.ones_like(X))[0]


def test_drop_activation_passes_on_x_at_the_rate():
    """Each element is tanh x with slope 1 - tanh^2 x, or else x with slope 1, in a
    share `rate` of 134000 elements (|z| < 4)."""
    y, slope = map(np.asarray, drawn("drop_activation", 0.3))
    x = np.asarray(X)
    linear = y == x
    np.testing.assert_allclose(y[~linear], np.tanh(x[~linear]), rtol=1e-6)
    expected = np.where(linear & (x != 0), 1, 1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    share = linear[x != 0].mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.21 / linear[x != 0].size)


def test_rrelu_adds_a_uniform_slope_below_zero():
    """With rate 0.6 slopes are uniform on 0.6 (1/8, 1/3): their mean and their variance
    (|z| < 4 for the mean of 53600; 3 % for the variance), and both ends are met."""
    y, slope = map(np.asarray, drawn("rrelu", 0.6))
    x = np.asarray(X)
    np.testing.assert_allclose(y[x >= 0], np.tanh(x[x >= 0]), rtol=1e-6)
    slopes = (y - np.tanh(x))[x < 0] / x[x < 0]
    low, high = 0.6 / 8, 0.6 / 3
    assert low - 1e-6 < slopes.min() < low + 1e-3
    assert high - 1e-3 < slopes.max() < high + 1e-6
    deviation = (high - low) / np.sqrt(12)
    error = 4 * deviation / np.sqrt(slopes.size)
    assert abs(slopes.mean() - (low + high) / 2) < error
    assert abs(slopes.std() / deviation - 1) < 0.03
    found = slope[x < 0] - (1 - np.tanh(x[x < 0]) ** 2)
    np.testing.assert_allclose(found, slopes, atol=1e-5)


def test_rules_at_test_are_leaky():
    x = jnp.asarray([[-2.0, 3.0]])
    leaky = drop_activation.evaluate(x, 0.05, jax.nn.relu)
    np.testing.assert_allclose(leaky, [[-0.1, 3.0]], rtol=1e-6)
    leaky = rrelu.evaluate(x, 1.0, jax.nn.relu)  # as torch.nn.RReLU().eval()
    np.testing.assert_allclose(leaky, [[-0.4583333, 3.0]], rtol=1e-6)
    with pytest.raises(ValueError, match="low=0.5, high=0.3.*low <= high"):
        rrelu(KEY, x, 0.5, jax.nn.relu, low=0.5, high=0.3)


def test_a_site_without_a_rule_adds_nothing_to_the_program():
    def program(f):
        return str(jax.make_jaxpr(f)(X))

    drop = bind(resolve(parse("fc:bernoulli:0.5"), ("fc/act", "fc")), None, "eval")
    assert program(lambda x: drop("fc/act", x, jnp.tanh)) == program(jnp.tanh)
