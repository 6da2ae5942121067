"""Where masks come from: what `bind` makes of a plan at each kind of site."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import JaxBits, Moment, Timeline, bernoulli, bind, parse, resolve, rows_at
from models.layers import pool_2x2

TIMELINE = Timeline(100, 10)
SITES = (
    "input", "conv1/kernel", "conv1", "pool1/window", "fc", "b/branches", "lstm/state",
)  # fmt: skip


def dropper(text, key, step=0, mode="train", bits="hash", draw=0, examples=None):
    rows = resolve(parse(text), SITES)
    ids = jnp.arange(8) if examples is None else jnp.asarray(examples)
    moment = Moment(key, ids, step // TIMELINE.steps_per_epoch, step, draw)
    return bind(rows_at(rows, step, TIMELINE), moment, mode, bits)


def mask(text, key, site="conv1", shape=(8, 5, 6), **moment):
    return np.asarray(dropper(text, key, **moment)(site, jnp.ones(shape)) != 0)


def test_a_site_without_a_rule_gets_the_plain_network(key):
    drop = dropper("fc:bernoulli:0.5", key)
    x, y = jax.random.normal(key, (2, 8, 4, 4, 3))
    kernel = jax.random.normal(key, (3, 5))
    assert drop("conv1", x) is x
    np.testing.assert_array_equal(
        drop("conv1/kernel", x, kernel, jnp.matmul), x @ kernel
    )
    np.testing.assert_array_equal(drop("pool1/window", x, pool_2x2), pool_2x2(x))
    np.testing.assert_array_equal(drop("b/branches", x, y), (x + y) / 2)
    np.testing.assert_array_equal(drop("lstm/state", x, y), x)


def test_masks_do_not_depend_on_which_other_sites_have_rules(key):
    alone = mask("conv1:bernoulli:0.3", key)
    among = mask("input:bernoulli:0.2 conv1:bernoulli:0.3 fc:bernoulli:0.5", key)
    np.testing.assert_array_equal(alone, among)


def test_sites_differ(key):
    plan = "conv1:bernoulli:0.5 fc:bernoulli:0.5"
    assert (mask(plan, key, "conv1") != mask(plan, key, "fc")).mean() > 0.3


def test_masks_follow_the_example_and_not_its_position(key):
    plan, order = "conv1:bernoulli:0.3", [5, 2, 7, 7, 0, 1, 3, 4]
    whole = mask(plan, key)
    np.testing.assert_array_equal(mask(plan, key, examples=order), whole[order])
    part = mask(plan, key, shape=(2, 5, 6), examples=[6, 1])
    np.testing.assert_array_equal(part, whole[[6, 1]])


def test_masks_of_examples_change_with_the_epoch_and_not_within_it(key):
    plan = "conv1:bernoulli:0.5"
    np.testing.assert_array_equal(mask(plan, key, step=0), mask(plan, key, step=9))
    assert (mask(plan, key, step=0) != mask(plan, key, step=10)).mean() > 0.3


def test_masks_of_batches_change_with_the_step_and_are_shared(key):
    plan = "conv1:bernoulli(unit='batch'):0.5"
    first, second = (mask(plan, key, step=step) for step in (0, 1))
    assert (first == first[:1]).all()
    assert (first != second).mean() > 0.3
    other_rows = mask(plan, key, shape=(2, 5, 6), examples=[100, 3])
    np.testing.assert_array_equal(other_rows, first[:2])


def test_draws_differ_and_monte_carlo_repeats_a_draw(key):
    plan = "conv1:bernoulli:0.5"
    zero, one, two = (mask(plan, key, mode="mc", draw=draw) for draw in (0, 1, 2))
    assert (zero != one).mean() > 0.3
    assert (one != two).mean() > 0.3
    np.testing.assert_array_equal(mask(plan, key, mode="mc", draw=1), one)
    np.testing.assert_array_equal(mask(plan, key, mode="train"), zero)


def test_shared_monte_carlo_is_one_network_for_all_examples(key):
    shared = mask("conv1:bernoulli:0.5", key, mode="shared_mc", draw=3)
    assert (shared == shared[:1]).all()
    assert 0 < shared.mean() < 1


def test_evaluation_makes_no_key_and_is_the_plain_network(key):
    rows = resolve(parse("conv1:bernoulli:0.5 conv1/kernel:bernoulli:0.5"), SITES)
    drop = bind(rows_at(rows, 3, TIMELINE), None, "eval")
    x = jax.random.normal(key, (8, 3))
    np.testing.assert_array_equal(drop("conv1", x), x)
    kernel = jnp.ones((3, 4))
    np.testing.assert_array_equal(
        drop("conv1/kernel", x, kernel, jnp.matmul), x @ kernel
    )


@pytest.mark.parametrize("bits", ["hash", "jax"])
def test_a_kernel_has_one_mask_per_batch_or_one_per_example(key, bits):
    x, kernel = jnp.ones((8, 6)), jnp.ones((6, 4))
    shared, each = (
        dropper(f"conv1/kernel:bernoulli{unit}:0.5", key, bits=bits)(
            "conv1/kernel", x, kernel, jnp.matmul
        )
        for unit in ("", "(unit='example')")
    )
    assert (shared == shared[:1]).all()
    assert len(np.unique(each, axis=0)) > 4


def test_a_kernel_mask_drops_weights_and_not_inputs(key):
    drop = dropper("conv1/kernel:bernoulli:0.5", key)
    kernels = drop("conv1/kernel", jnp.eye(6), jnp.ones((6, 4)), jnp.matmul)
    assert set(np.unique(kernels)) == {0.0, 2.0}
    assert len(np.unique(kernels, axis=0)) > 1


def test_the_reference_generator_draws_other_masks_at_the_same_rate(key):
    plan, shape = "conv1:bernoulli:0.3", (8, 50, 50)
    hashed, drawn = (
        mask(plan, key, shape=shape, bits=bits) for bits in ("hash", "jax")
    )
    # 20,000 decisions: five standard deviations are 0.016.
    assert abs(drawn.mean() - 0.7) < 0.016
    assert abs((hashed == drawn).mean() - (0.7**2 + 0.3**2)) < 0.018


def test_row_keys_of_a_scalar_key_are_those_of_examples_from_zero(key):
    x = jnp.ones((8, 40))
    rows = jax.vmap(lambda example: jax.random.fold_in(key, example))(jnp.arange(8))
    np.testing.assert_array_equal(bernoulli(key, x, 0.4), bernoulli(rows, x, 0.4))
    np.testing.assert_array_equal(
        bernoulli(JaxBits(key), x, 0.4), bernoulli(JaxBits(rows), x, 0.4)
    )
    with pytest.raises(ValueError, match="one per row"):
        bernoulli(rows[:3], x, 0.4)


def over_time(text, key, times=4, **moment):
    drop, x = dropper(text, key, **moment), jnp.ones((8, 40))
    masks = jax.lax.map(lambda time: drop("conv1", x, time=time), jnp.arange(times))
    return np.asarray(masks) != 0


def test_masks_differ_over_time_within_a_scan(key):
    masks = over_time("conv1:bernoulli:0.5", key)
    for time, mask in enumerate(masks):
        # 320 decisions: 0.3 is seven standard deviations below a half.
        assert all((mask != other).mean() > 0.3 for other in masks[:time])


@pytest.mark.parametrize("plan", ["conv1:locked:0.5", "conv1:locked(unit='batch'):0.5"])
def test_masks_of_a_sequence_are_the_same_at_all_times(key, plan):
    masks = over_time(plan, key)
    assert 0 < masks.mean() < 1
    assert (masks == masks[:1]).all()
    other = over_time(plan, key, step=10)
    assert (other != masks).any()


def test_masks_over_time_are_shared_by_the_batch_where_asked(key):
    masks = over_time("conv1:bernoulli(unit='batch'):0.5", key)
    assert (masks == masks[:, :1]).all()
    assert len(np.unique(masks[:, 0], axis=0)) == len(masks)


@pytest.mark.parametrize("name", ["bernoulli", "locked", "zoneout"])
def test_a_scan_equals_a_loop_and_so_do_its_gradients(key, name):
    site, others = ("lstm/state", True) if name == "zoneout" else ("conv1", False)
    drop, times = dropper(f"{site}:{name}:0.4", key), 4

    def advance(state, time):
        new = jnp.tanh(state * 1.5 + 0.1)
        return drop(site, new, *(state,) * others, time=time)

    def scanned(state):
        return jax.lax.scan(
            lambda state, time: (advance(state, time), None), state, jnp.arange(times)
        )[0]

    def looped(state):
        for time in range(times):
            state = advance(state, time)
        return state

    def with_gradient(function):
        return jax.jit(jax.value_and_grad(lambda state: (function(state) ** 2).sum()))

    state = jax.random.normal(key, (8, 6))
    value, gradient = with_gradient(scanned)(state)
    expected, by_hand = with_gradient(looped)(state)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4, atol=1e-6)


def test_time_changes_nothing_without_a_rule_or_at_test(key):
    x, rows = jnp.ones((8, 3)), resolve(parse("conv1:bernoulli:0.5"), SITES)
    assert dropper("fc:bernoulli:0.5", key)("conv1", x, time=3) is x
    drop = bind(rows_at(rows, 3, TIMELINE), None, "eval")
    assert drop("conv1", x, time=3) is x


def test_weight_scaling_is_not_weighted_pooling(key):
    x = jax.random.uniform(key, (8, 4, 4, 3))
    plan, site = "pool1/window:max_pool:0.25", "pool1/window"
    scaled, weighted = (
        dropper(plan, key, mode=mode)(site, x, pool_2x2) for mode in ("scaling", "eval")
    )
    np.testing.assert_allclose(scaled, 0.75 * pool_2x2(x), rtol=1e-6)
    # More than 3/4 of the largest: with chance 1/4 the next is passed on.
    assert (weighted > scaled).all() and (weighted < pool_2x2(x)).all()
    for mode in ("scaling", "eval"):
        drop = dropper("conv1:bernoulli:0.25", key, mode=mode)
        np.testing.assert_array_equal(drop("conv1", x), x)


@pytest.mark.parametrize("bits", ["hash", "jax"])
def test_the_gaussian_rule_matches_the_moments_of_each_examples_product(key, bits):
    x, kernel = jax.random.uniform(key, (8, 50)), jnp.linspace(-1, 1, 50 * 400)
    kernel, rate = kernel.reshape(50, 400), 0.3
    mean = x @ kernel
    deviation = np.sqrt(rate / (1 - rate) * (x**2 @ kernel**2))
    drop = dropper("conv1/kernel:dropconnect:0.3", key, mode="gaussian", bits=bits)
    z = (drop("conv1/kernel", x, kernel, jnp.matmul) - mean) / deviation
    # 3,200 values: five standard errors of their mean and variance.
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / z.size)
    assert abs(np.corrcoef(z) - np.eye(8)).max() < 5 / np.sqrt(400)
    other = dropper("fc:bernoulli:0.5", key, mode="gaussian")
    same = dropper("fc:bernoulli:0.5", key, mode="mc")
    np.testing.assert_array_equal(other("fc", x), same("fc", x))


@pytest.mark.parametrize("mode", ["train", "mc", "shared_mc", "gaussian"])
def test_a_mode_that_draws_needs_a_moment(mode):
    rows = resolve(parse("fc:bernoulli:0.5"), SITES)
    with pytest.raises(ValueError, match=f"moment=None, mode='{mode}'.*'fc'") as raised:
        bind(rows, None, mode)
    assert "\n" not in str(raised.value)
    assert bind((), None, mode)("fc", jnp.ones(3)).sum() == 3


@pytest.mark.parametrize("wrong", [{"mode": "test"}, {"bits": "threefry"}])
def test_an_unknown_mode_or_generator_is_refused(key, wrong):
    ((name, value),) = wrong.items()
    # Unchecked, as a user calls it: the type checker of the tests would be first.
    function = inspect.unwrap(bind)
    with pytest.raises(ValueError, match=f"{name}='{value}'.*expected one of"):
        function((), Moment(key, jnp.arange(3), 0, 0), **wrong)


def test_a_learned_variant_uses_the_parameters_of_its_site():
    """L0 gates that are shut and open, whatever the rate of the plan."""
    rows = resolve(parse("fc:l0_gate:0.5"), ("fc",))
    params = {"fc": {"log_alpha": jnp.float32([-9, 9])}}
    drop = bind(rows, None, "eval", params=params)
    np.testing.assert_array_equal(drop("fc", jnp.full((3, 2), 5.0)), [[0, 5]] * 3)
