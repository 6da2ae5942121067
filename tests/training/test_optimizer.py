"""Weight decay, max-norm, clipping and learning rates against their formulas."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from variant_cases import QUICK

from dropout.grammar import Call, parse_call
from training.config import Config
from training.experiment import peak_learning_rate
from training.optimizer import (
    LEARNING_RATES,
    OPTIMIZERS,
    bound_norms,
    learning_rate,
    make_optimizer,
    scale_by_adam,
)


@pytest.fixture
def params(key):
    kernel, bias = jax.random.normal(key, (3, 3, 2, 4)), jnp.ones(4)
    return {"conv1": {"kernel": kernel, "bias": bias}}


def one_update(text, params, gradient, weight_decay=0.0, clip_norm=0.0):
    rate = learning_rate(Call("constant"), 0.1, 10)
    optimizer = make_optimizer(parse_call(text), rate, weight_decay, clip_norm)

    @partial(jax.jit, compiler_options=QUICK)
    def update(gradient, params):
        return optimizer.update(gradient, optimizer.init(params), params)[0]["conv1"]

    with jax.numpy_dtype_promotion("standard"):
        return update(gradient, params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_acts_on_kernels_only(name, params):
    still = jax.tree.map(jnp.zeros_like, params)
    update = one_update(name, params, still, weight_decay=0.5)
    assert (update["bias"] == 0).all()
    assert (jnp.sign(update["kernel"]) == -jnp.sign(params["conv1"]["kernel"])).all()


def test_decay_is_coupled_for_sgd_and_decoupled_for_adamw(params):
    gradient = jax.tree.map(jnp.ones_like, params)
    kernel = params["conv1"]["kernel"]
    coupled = one_update("sgd(momentum=0.0)", params, gradient, weight_decay=0.5)
    np.testing.assert_allclose(coupled["kernel"], -0.1 * (1 + 0.5 * kernel), rtol=1e-5)
    decoupled = one_update("adamw", params, gradient, weight_decay=0.5)
    expected = -0.1 * (1 + 0.5 * kernel)
    np.testing.assert_allclose(decoupled["kernel"], expected, atol=1e-5)
    # Adam's first step is the sign of gradient + decay, whatever its size.
    adam = one_update("adam", params, gradient, weight_decay=0.5)
    np.testing.assert_allclose(
        adam["kernel"], -0.1 * jnp.sign(1 + 0.5 * kernel), rtol=1e-3
    )


def test_clipping_bounds_the_global_norm(params):
    gradient = jax.tree.map(lambda leaf: 10 * jnp.ones_like(leaf), params)
    update = one_update("sgd(momentum=0.0)", params, gradient, clip_norm=1.0)
    squares = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(update))
    assert np.sqrt(squares) == pytest.approx(0.1, rel=1e-5)


def test_max_norm_bounds_each_unit_and_leaves_the_rest(params):
    bounded = bound_norms(params, 2.0)["conv1"]
    kernel, after = (
        np.asarray(k) for k in (params["conv1"]["kernel"], bounded["kernel"])
    )
    norms = np.sqrt((kernel**2).sum((0, 1, 2)))
    assert (norms > 2).any()
    np.testing.assert_allclose(
        np.sqrt((after**2).sum((0, 1, 2))), np.minimum(norms, 2), rtol=1e-5
    )
    np.testing.assert_array_equal(bounded["bias"], params["conv1"]["bias"])
    within = bound_norms(params, 100.0)["conv1"]["kernel"]
    np.testing.assert_array_equal(within, params["conv1"]["kernel"])


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_learning_rates_stay_between_zero_and_the_peak(name):
    schedule = learning_rate(Call(name), 0.3, 100)
    with jax.numpy_dtype_promotion("standard"):
        rates = np.array([float(schedule(step)) for step in range(101)])
    assert (rates >= 0).all() and rates.max() == pytest.approx(0.3, rel=1e-5)


def test_cosine_warms_up_and_ends_at_its_end():
    schedule = learning_rate(parse_call("cosine(warmup=0.1, end=0.01)"), 1.0, 100)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
    assert rates == pytest.approx([0, 0.5, 1, 0.505, 0.01], abs=1e-3)


def test_stepped_falls_by_its_factor_at_fractions_of_the_run():
    schedule = learning_rate(parse_call("stepped(at=(0.3, 0.6), factor=0.2)"), 0.5, 10)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in (0, 2, 3, 5, 6, 9)]
    assert rates == pytest.approx([0.5, 0.5, 0.1, 0.1, 0.02, 0.02])


def test_adam_is_optaxs():
    """Over ten steps of random gradients, one of them zero throughout, to 3e-5: in
    float32 1 - 0.999^t keeps no more digits."""
    params = {"a": jnp.ones((3, 4)), "b": jnp.zeros(5)}
    ours, theirs = scale_by_adam(0.9, 0.999, 1e-8), optax.scale_by_adam()
    states = ours.init(params), theirs.init(params)
    for step in range(10):
        key = jax.random.key(step)
        gradient = {"a": jax.random.normal(key, (3, 4)), "b": jnp.zeros(5)}
        with jax.numpy_dtype_promotion("standard"):
            found, first = ours.update(gradient, states[0], params)
            expected, second = theirs.update(gradient, states[1], params)
        states = first, second
        for mine, its in zip(
            *map(jax.tree.leaves, ((found, first), (expected, second)))
        ):
            np.testing.assert_allclose(mine, its, rtol=3e-5, atol=1e-7)


def test_fractions_that_fall_on_one_step_multiply_it_by_a_factor_each():
    """0.5 and 0.52 of 10 steps are both step 5: 0.1 * 0.1 from there on."""
    schedule = learning_rate(parse_call("stepped(at=(0.5, 0.52, 0.8))"), 1.0, 10)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in (4, 5, 7, 8)]
    assert rates == pytest.approx([1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_warm_up_of_nearly_all_of_a_short_run(steps):
    schedule = learning_rate(parse_call("cosine(warmup=0.99)"), 1.0, steps)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in range(steps)]
    assert rates == pytest.approx([step / steps for step in range(steps)])


def test_lars_takes_steps_in_proportion_to_each_kernels_norm(params, key):
    """By the formula of You et al. 2017: trust |w| / |g + decay w| times the step."""
    gradient = jax.tree.map(
        lambda leaf: jax.random.normal(key, leaf.shape) - 0.3, params
    )
    update = one_update("lars(momentum=0.0, trust=0.02)", params, gradient, 0.5)
    w, g = (
        np.asarray(tree["conv1"]["kernel"], np.float64) for tree in (params, gradient)
    )
    whole = g + 0.5 * w
    ratio = 0.02 * np.sqrt((w**2).sum()) / np.sqrt((whole**2).sum())
    np.testing.assert_allclose(update["kernel"], -0.1 * ratio * whole, rtol=1e-5)
    np.testing.assert_allclose(
        update["bias"], -0.1 * gradient["conv1"]["bias"], rtol=1e-6
    )


def test_the_first_step_of_lamb_has_the_norm_of_the_kernel(params, key):
    """Adam's first step is the sign of the gradient, to which decay w is added."""
    gradient = jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), params)
    update = one_update("lamb", params, gradient, weight_decay=0.5)
    w, g = (
        np.asarray(tree["conv1"]["kernel"], np.float64) for tree in (params, gradient)
    )
    step = np.sign(g) + 0.5 * w
    expected = -0.1 * np.linalg.norm(w) / np.linalg.norm(step) * step
    np.testing.assert_allclose(update["kernel"], expected, rtol=1e-3)
    np.testing.assert_allclose(
        update["bias"], -0.1 * np.sign(gradient["conv1"]["bias"]), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant(warmup=0.4)", [0, 0.25, 0.5, 0.75, 1, 1, 1]),
        ("stepped(at=(0.5,), factor=0.1, warmup=0.2)", [0, 0.5, 1, 1, 1, 0.1, 0.1]),
    ],
)
def test_a_warm_up_rises_from_0_to_the_rate(text, expected):
    schedule = learning_rate(parse_call(text), 1.0, 10)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in range(7)]
    assert rates == pytest.approx(expected)


def test_the_rate_is_scaled_to_the_batch():
    config = Config(learning_rate=0.1, batch_size=1024)
    assert peak_learning_rate(config) == 0.1
    scaled = replace(config, learning_rate_batch=256)
    assert peak_learning_rate(scaled) == pytest.approx(0.4)
