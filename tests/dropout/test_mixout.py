"""Mixout: between the weights and those of the start."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK, draw

from dropout import VARIANTS, Moment, bind, parse, resolve

KEY, COPIES, RATE = jax.random.key(41), 2048, 0.3
WEIGHTS, START = jax.random.normal(jax.random.key(42), (2, 3, 5, 7))
RANDOM = jnp.broadcast_to(WEIGHTS, (COPIES, 3, 5, 7))


def mixed(weights, rate, start, **options):
    return np.asarray(draw("mixout", KEY, weights, rate, start, **options))


def test_weights_are_those_of_the_start_or_beyond_the_trained_ones():
    """W0, or (W - rate W0) / q: with shares rate and q (|z| < 5 at each weight), so
    that the mean is W."""
    y = mixed(RANDOM, RATE, START)
    back = y == np.asarray(START)
    beyond = np.broadcast_to((WEIGHTS - RATE * START) / (1 - RATE), y.shape)
    np.testing.assert_allclose(y[~back], beyond[~back], rtol=1e-4, atol=1e-5)
    error = np.sqrt(RATE * (1 - RATE) / COPIES)
    assert np.abs(back.mean(0) - RATE).max() < 5 * error
    deviation = np.abs(y.mean(0) - np.asarray(WEIGHTS)) / (y.std(0) / COPIES**0.5)
    assert deviation.max() < 5


def test_without_a_start_it_is_dropconnect_and_at_the_start_nothing_changes():
    zeros = jnp.zeros_like(START)
    expected = np.asarray(draw("dropconnect", KEY, RANDOM, RATE))
    np.testing.assert_array_equal(mixed(RANDOM, RATE, zeros), expected)
    np.testing.assert_array_equal(mixed(RANDOM, RATE, WEIGHTS), RANDOM)
    np.testing.assert_array_equal(mixed(RANDOM, 0.0, START), RANDOM)
    at_1 = np.broadcast_to(START, RANDOM.shape)
    np.testing.assert_array_equal(mixed(RANDOM, 1.0, START), at_1)


def test_inputs_go_back_as_a_whole():
    y = mixed(RANDOM[:64], 0.5, START, drop="input")
    back = y == np.asarray(START)
    assert (back == back[:, :1, :, :1]).all() and 0.3 < back.mean() < 0.7


def test_the_derivative_is_the_mask():
    """1 / q where a weight is kept, else 0; nothing flows into the start."""
    weights = RANDOM[:8]

    @partial(jax.jit, compiler_options=QUICK)
    def pulled(weights, start):
        y, pull = jax.vjp(partial(VARIANTS["mixout"], KEY), weights, RATE, start)
        return y, pull(jnp.ones_like(y))

    y, (gradient, _, of_start) = pulled(weights, START)
    kept = y != START[None]
    expected = np.where(kept, np.float32(1 / (1 - RATE)), 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert not of_start.any()


def test_a_plan_takes_the_start_from_the_parameters():
    rows = resolve(parse("fc/kernel:mixout:1.0"), ("fc/kernel",))
    moment = Moment(KEY, jnp.arange(4), 0, 0)
    x, weights, start = jnp.ones((4, 5)), jnp.ones((5, 7)), jnp.full((5, 7), 2.0)

    @partial(jax.jit, compiler_options=QUICK)
    def product(start):
        drop = bind(rows, moment, params={"fc/kernel": {"start": start}})
        return drop("fc/kernel", x, weights, jnp.matmul)

    assert (product(start) == 10).all()
    at_test = bind(rows, None, "eval")
    assert (at_test("fc/kernel", x, weights, jnp.matmul) == 5).all()
    with pytest.raises(ValueError, match="'fc/kernel': expected the kernel before"):
        bind(rows, moment)
    with pytest.raises(ValueError, match=r"shape \(7,\); expected \(5, 7\)"):
        VARIANTS["mixout"](KEY, weights[None], 0.5, start[0])
