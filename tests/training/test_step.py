"""The training step: masks and gradients whatever the batch, micro-batch or device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK

from dropout import Timeline, parse, resolve
from dropout.grammar import Call
from models.convolution import compiler_options
from training.objective import Objective, correct_weight, cross_entropy
from training.optimizer import OPTIMIZERS, make_optimizer
from training.runtime.devices import make_mesh, over_rows, replicated
from training.state import Batch, initial_state
from training.step import accumulate, make_train_step

EXAMPLES, CLASSES = 24, 7
ALL = np.arange(EXAMPLES, dtype=np.int32)


def batch_of(ids, parts=1, devices=1):
    """Images hold the example's id, so a network can tell whose row it sees."""
    rows = np.asarray(ids, np.int32).reshape(parts, -1)
    padding = ((0, 0), (0, -rows.shape[1] % devices))
    weights = np.pad(np.ones(rows.shape, np.float32), padding)
    rows = np.pad(rows, padding)
    images = rows.astype(np.float32)[..., None, None, None]
    arrays = (images, rows % CLASSES, rows, weights)
    return Batch(*jax.device_put(arrays, over_rows(make_mesh(f"data:{devices}"))))


def forward(params, stats, images, drop, row_weights=None):
    """Each example has its own row of parameters, dropped before it is the logits."""
    rows = params["table"]["kernel"][images[:, 0, 0, 0].astype(jnp.int32)]
    return drop("fc", rows), stats


def objective(plan, smoothing=0.0):
    rows = resolve(parse(plan), ("fc",))
    timeline = Timeline(60, 6)
    return Objective(forward, lambda x: x, rows, timeline, "hash", smoothing)


def state_at(step, devices=1):
    table = jax.random.normal(jax.random.key(0), (EXAMPLES, CLASSES)) + 3
    optimizer = make_optimizer(Call("sgd"), lambda step: 0.1, 0.0, 0.0)
    state = initial_state({"table": {"kernel": table}}, {}, optimizer)
    state = state._replace(step=jnp.int32(step))
    return jax.device_put(state, replicated(make_mesh(f"data:{devices}")))


def gradient(plan, ids, key, step=0, parts=1, devices=1, smoothing=0.0):
    """The summed gradient of each example's row: it is 0 where the row is dropped."""
    batch = batch_of(ids, parts, devices)
    compiled = jax.jit(accumulate, static_argnums=0, compiler_options=QUICK)
    found, _, sums = compiled(
        objective(plan, smoothing), state_at(step, devices), batch, key
    )
    return np.asarray(found["table"]["kernel"]), jax.device_get(sums)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_step_writes_the_state_where_it_was(name):
    optimizer = make_optimizer(Call(name), lambda step: 0.1, 0.01, 0.0)
    params = {"table": {"kernel": jnp.ones((EXAMPLES, CLASSES))}}
    step = make_train_step(objective("none"), optimizer, 0.0, lambda: None)
    jitted = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())
    state = initial_state(params, {}, optimizer)
    program = jitted.lower(state, batch_of(ALL), jax.random.key(0)).compile()
    assert not re.findall(rf"f32\[{EXAMPLES},{CLASSES}\]\S* copy", program.as_text())


PLAN = "fc:bernoulli:0.5@linear"


@pytest.fixture(scope="module")
def reference():
    return gradient(PLAN, ALL, jax.random.key(9), step=50)


def test_masks_drop_some_and_keep_some(reference):
    share = (reference[0] == 0).mean()
    # 168 decisions at rate 0.5 * 50 / 60: five standard deviations are 0.19.
    assert abs(share - 0.5 * 50 / 60) < 0.19


SPREAD = [(1, 1), (2, 1), (1, 2), (3, 8)]
MORE = [(3, 1), (2, 2), (1, 3), (3, 3), (2, 4), (1, 8)]


@pytest.mark.parametrize(
    ("parts", "devices"),
    [*SPREAD, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_masks_do_not_depend_on_parts_or_devices(reference, parts, devices):
    found, sums = gradient(PLAN, ALL, jax.random.key(9), 50, parts, devices)
    np.testing.assert_array_equal(found == 0, reference[0] == 0)
    np.testing.assert_allclose(found, reference[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums.loss, reference[1].loss, rtol=1e-5)
    assert sums.examples == EXAMPLES


def test_masks_do_not_depend_on_batch_size_or_order(reference):
    ids = ALL[[17, 3, 20, 4, 9]]
    found, sums = gradient(PLAN, ids, jax.random.key(9), step=50)
    np.testing.assert_array_equal(found[ids] == 0, reference[0][ids] == 0)
    assert sums.examples == len(ids)
    others = np.setdiff1d(ALL, ids)
    assert (found[others] == 0).all()


def test_shards_do_not_share_masks():
    found, _ = gradient("fc:bernoulli:0.5", ALL, jax.random.key(9), devices=8)
    shards = (found == 0).reshape(8, -1)
    for first in range(8):
        for second in range(first):
            # 21 decisions, half of which should differ.
            assert (shards[first] != shards[second]).sum() >= 3


@pytest.mark.parametrize("parts", [1, 2])
def test_a_batch_mask_is_one_over_parts_and_devices(parts):
    plan = "fc:bernoulli(unit='batch'):0.5"
    found, _ = gradient(plan, ALL, jax.random.key(9), 3, parts, devices=2)
    kept = found != 0
    assert (kept == kept[:1]).all()
    assert 0 < kept[0].sum() < CLASSES


def test_padding_counts_for_nothing():
    """Five examples on four devices are padded with three rows of weight 0."""
    ids = ALL[[1, 2, 3, 4, 5]]
    alone = gradient(PLAN, ids, jax.random.key(9), 50)
    padded = gradient(PLAN, ids, jax.random.key(9), 50, devices=4)
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded[1], alone[1], rtol=1e-6)


def test_rate_zero_is_no_dropout_bit_for_bit():
    none = gradient("none", ALL, jax.random.key(9))
    zero = gradient("fc:bernoulli:0.0", ALL, jax.random.key(9))
    np.testing.assert_array_equal(none[0], zero[0])


def test_cross_entropy_equals_its_formula(key):
    logits = jax.random.normal(key, (5, CLASSES)) * 4
    labels = jnp.array([0, 3, 6, 1, 1])
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    for smoothing in (0.0, 0.1, 1.0):
        picked = log_p[np.arange(5), labels]
        expected = -(1 - smoothing) * picked - smoothing * log_p.mean(-1)
        np.testing.assert_allclose(
            cross_entropy(logits, labels, smoothing), expected, rtol=1e-5
        )


def test_cross_entropy_is_the_mean_over_the_positions_of_an_example(key):
    logits = jax.random.normal(key, (5, 4, CLASSES))
    labels = jax.random.randint(key, (5, 4), 0, CLASSES)
    each = [cross_entropy(logits[:, t], labels[:, t], 0.1) for t in range(4)]
    found = cross_entropy(logits, labels, 0.1)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)
    weights = jnp.arange(5.0)
    right = np.asarray(logits.argmax(-1) == labels).mean(1) @ np.arange(5.0)
    np.testing.assert_allclose(correct_weight(logits, labels, weights), right)


@pytest.mark.parametrize("hole", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(hole):
    def broken(params, *others):
        logits, stats = forward(params, *others)
        # The root's value at 0 is finite, its derivative is not.
        root = jnp.sqrt(params["table"]["kernel"][0, 0])
        return logits + (jnp.log(-root) if hole == "loss" else root), stats

    optimizer = make_optimizer(Call("adam"), lambda step: 0.1, 0.0, 0.0)
    target = objective("none")._replace(forward=broken)
    step = jax.jit(make_train_step(target, optimizer, 0.0, lambda: None))
    table = state_at(0).params["table"]["kernel"]
    good = initial_state({"table": {"kernel": jnp.abs(table)}}, {}, optimizer)
    bad = initial_state({"table": {"kernel": table.at[0, 0].set(0.0)}}, {}, optimizer)
    after, metrics = step(bad, batch_of(ALL), jax.random.key(0))
    assert not metrics["finite"] and jnp.isfinite(metrics["loss"]) == (hole != "loss")
    assert (int(after.step), int(after.skipped)) == (1, 1)
    expected = bad._replace(step=after.step, skipped=after.skipped)
    jax.tree.map(np.testing.assert_array_equal, after, expected)
    if hole == "gradient":
        after, metrics = step(good, batch_of(ALL), jax.random.key(0))
        assert metrics["finite"] and int(after.skipped) == 0
        assert (after.params["table"]["kernel"] != good.params["table"]["kernel"]).all()


def test_a_step_is_a_gradient_step_on_the_mean_loss():
    optimizer = make_optimizer(
        Call("sgd", (("momentum", 0.0),)), lambda _: 0.1, 0.0, 0.0
    )
    step = make_train_step(objective("none"), optimizer, 0.0, lambda: None)
    state, key = state_at(0), jax.random.key(0)
    state = initial_state(state.params, {}, optimizer)
    after, metrics = jax.jit(step)(state, batch_of(ALL), key)
    table = np.asarray(state.params["table"]["kernel"], np.float64)
    p = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    expected = table - 0.1 * (p - np.eye(CLASSES)[ALL % CLASSES]) / EXAMPLES
    np.testing.assert_allclose(after.params["table"]["kernel"], expected, rtol=1e-5)
    assert int(after.step) == 1
    losses = -np.log(p[ALL, ALL % CLASSES])
    assert float(metrics["loss"]) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(after.totals.examples) == EXAMPLES
