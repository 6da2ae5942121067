"""Laws of masks in attached networks, the same for each framework."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wires import SHAPE, site, stack, wires

from dropout import Moment, Timeline, bind, parse, resolve, rows_at

FRAMEWORKS = ("nnx", "linen", pytest.param("equinox", marks=pytest.mark.slow))
pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS)


def moment(key, examples=range(8), **when):
    when = {"epoch": 0, "step": 0, "draw": 0, **when}
    return Moment(key, jnp.asarray(examples), **when)


def masks(framework, rules, key, names=("a", "b"), mode="train", rows=8, **when):
    plan = " ".join(f"{site(framework, name)}:{rule}" for name, rule in rules.items())
    run = wires(framework, names, plan)
    return run(jnp.ones((rows, SHAPE[1])), moment=moment(key, **when), mode=mode)


def bound(name, rule, key, shape=SHAPE, mode="train"):
    """What `bind` makes of ones at a site of this name."""
    drop = bind(resolve(parse(f"{name}:{rule}"), (name,)), moment(key), mode)
    return drop(name, jnp.ones(shape))


@pytest.mark.parametrize("rule", ["bernoulli:0.4", "gaussian:0.3", "locked:0.5"])
def test_masks_are_those_of_the_name(framework, rule, key):
    found = masks(framework, {"a": rule}, key)
    np.testing.assert_array_equal(found["a"], bound(site(framework, "a"), rule, key))
    np.testing.assert_array_equal(found["b"], np.ones(SHAPE))


def test_masks_stay_when_a_layer_or_a_rule_is_added(framework, key):
    rule = "bernoulli:0.4"
    few = masks(framework, {"a": rule}, key)
    many = masks(framework, {"a": rule, "x": rule}, key, names=("x", "a", "b"))
    np.testing.assert_array_equal(few["a"], many["a"])
    assert (many["a"] != many["x"]).mean() > 0.3


def test_masks_follow_the_example_under_another_batch_size(framework, key):
    rule = {"a": "bernoulli:0.4"}
    whole = masks(framework, rule, key)["a"]
    part = masks(framework, rule, key, rows=3, examples=[6, 1, 6])["a"]
    np.testing.assert_array_equal(part, whole[jnp.asarray([6, 1, 6])])


def test_masks_of_a_batch_are_shared_and_change_with_the_step(framework, key):
    rule = {"a": "bernoulli(unit='batch'):0.4"}
    first, second = (masks(framework, rule, key, step=step)["a"] for step in (0, 1))
    assert (first == first[:1]).all()
    assert (first != second).mean() > 0.3


def test_masks_of_a_run_never_change(framework, key):
    rule, run = "bernoulli(unit='run'):0.4", jax.random.key(8)
    first = masks(framework, {"a": rule, "b": rule}, key, run=run)
    later = masks(framework, {"a": rule}, run, run=run, epoch=2, step=7)
    assert (first["a"] == first["a"][:1]).all()
    assert (first["a"] != first["b"]).any()
    np.testing.assert_array_equal(first["a"], later["a"])


@pytest.mark.parametrize("mode", ["eval", "scaling"])
def test_evaluation_is_the_plain_network(framework, mode, key):
    found = masks(framework, {"a": "bernoulli:0.4"}, key, mode=mode)
    np.testing.assert_array_equal(found["a"], np.ones(SHAPE))


@pytest.mark.parametrize("mode", ["mc", "shared_mc", "gaussian"])
def test_other_modes_are_those_of_bind(framework, mode, key):
    found = masks(framework, {"a": "bernoulli:0.4"}, key, mode=mode)
    expected = bound(site(framework, "a"), "bernoulli:0.4", key, mode=mode)
    np.testing.assert_array_equal(found["a"], expected)


def test_masks_are_the_same_under_jit_vmap_and_checkpoint(framework, key):
    run = wires(framework, ("a",), f"{site(framework, 'a')}:bernoulli:0.4")

    def once(x, draw):
        return run(x, moment=moment(key, draw=draw), mode="mc")["a"]

    x = jnp.ones(SHAPE)
    expected = jnp.stack([once(x, draw) for draw in (1, 2)])
    assert (expected[0] != expected[1]).mean() > 0.3
    mapped = jax.jit(jax.vmap(jax.checkpoint(once), in_axes=(None, 0)))
    np.testing.assert_array_equal(mapped(x, jnp.arange(1, 3)), expected)


def test_the_gradient_is_of_the_pass_with_its_mask(framework, key):
    run = wires(framework, ("a",), f"{site(framework, 'a')}:bernoulli:0.4")

    def total(x):
        return run(x, moment=moment(key))["a"].sum()

    gradient = jax.jit(jax.grad(total))(jnp.ones(SHAPE))
    np.testing.assert_array_equal(
        gradient, run(jnp.ones(SHAPE), moment=moment(key))["a"]
    )


def test_a_schedule_acts_through_rows_of_a_traced_step(framework, key):
    name, timeline = site(framework, "a"), Timeline(100, 10)
    run = wires(framework, ("a",), f"{name}:bernoulli:0.5@early(until=0.2)")
    rows = run.func.rows

    @jax.jit
    def kept(step):
        at = rows_at(rows, step, timeline)
        return (run(jnp.ones(SHAPE), moment=moment(key), rows=at)["a"] != 0).mean()

    assert kept(30) == 1
    # 320 decisions at rate 0.5: five standard deviations are 0.14.
    assert abs(kept(0) - 0.5) < 0.14


@pytest.mark.parametrize("rule", ["bernoulli:0.5", "locked:0.5"])
def test_layers_in_a_loop_never_share_a_mask(framework, rule, key):
    layers = stack(framework, 3, rule)(jnp.ones(SHAPE), moment=moment(key)) != 0
    for one, other in ((0, 1), (0, 2), (1, 2)):
        # 320 decisions: 0.3 is seven standard deviations below a half.
        assert (layers[one] != layers[other]).mean() > 0.3
    # A unit of an example is dropped in a layer whatever it is in another.
    assert abs((layers[0] & layers[1]).mean() - 0.25) < 0.13


def test_masks_of_a_loop_stay_when_a_layer_is_added(framework, key):
    shorter, longer = (
        stack(framework, count, "bernoulli:0.5")(jnp.ones(SHAPE), moment=moment(key))
        for count in (2, 4)
    )
    np.testing.assert_array_equal(longer[:2], shorter)


def test_a_wrong_site_mode_or_row_is_one_line(framework, key):
    with pytest.raises(ValueError, match="no site matches 'z'.*allowed: input"):
        wires(framework, ("a",), "z:bernoulli:0.5")
    run = wires(framework, ("a",), f"{site(framework, 'a')}:bernoulli:0.5")
    with pytest.raises(ValueError, match="moment=None"):
        run(jnp.ones(SHAPE))
    with pytest.raises(ValueError, match="rows for no site; expected"):
        run(jnp.ones(SHAPE), moment=moment(key), rows=())


def test_the_sites_can_be_printed(framework):
    name = site(framework, "a")
    printed = str(wires(framework, ("a", "b"), f"{name}:spatial:0.25").func)
    assert [line.split()[0] for line in printed.splitlines()] == [
        "input", name, site(framework, "b"),
    ]  # fmt: skip
    assert printed.splitlines()[1].split() == [name, "spatial:0.25", "per", "example"]
