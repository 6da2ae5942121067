"""Normalisation: its formulas, and statistics of the rows that count alone."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from test_step import batch_of
from variant_cases import QUICK

from dropout import Moment, Timeline, bind, identity, parse, resolve
from dropout.grammar import Call
from models.norms import NORMS, normalise
from training.network import functional
from training.objective import Objective
from training.optimizer import make_optimizer
from training.runtime.devices import make_mesh, replicated
from training.state import initial_state
from training.step import accumulate

CHANNELS = 8
SITES = ("fc",)


class Normed(nnx.Module):
    """Images of one pixel hold an example's id; its features are normalised."""

    def __init__(self, kind="batch"):
        table = jax.random.normal(jax.random.key(0), (24, CHANNELS)) * 3 + 2
        self.table = nnx.Param(table)
        self.norm = NORMS[kind](CHANNELS)

    def __call__(self, images, drop=identity, row_weights=None):
        rows = self.table[...][images[:, 0, 0, 0].astype(jnp.int32)]
        return normalise(self.norm, drop("fc", rows), row_weights)


NETWORK = functional(Normed(), (1, 1, 1))
TABLE = np.asarray(NETWORK.params["table"], np.float64)


def statistics(batch, devices=1, stats=NETWORK.stats, plan="none"):
    """The gradient and the running statistics after a batch."""
    rows, timeline = resolve(parse(plan), SITES), Timeline(60, 6)
    objective = Objective(NETWORK.forward, lambda x: x, rows, timeline, "hash", 0.0)
    state = initial_state(
        NETWORK.params, stats, make_optimizer(Call("sgd"), lambda _: 0.1, 0.0, 0.0)
    )
    state = jax.device_put(state, replicated(make_mesh(f"data:{devices}")))
    compiled = jax.jit(accumulate, static_argnums=0, compiler_options=QUICK)
    found, after, _ = compiled(objective, state, batch, jax.random.key(1))
    return np.asarray(found["table"]), jax.tree.map(np.asarray, after["norm"])


def moved(running, ids):
    """Running statistics after one batch of these examples, by their formula."""
    mean, var = TABLE[ids].mean(0), TABLE[ids].var(0)
    return {
        "mean": 0.9 * running["mean"] + 0.1 * mean,
        "var": 0.9 * running["var"] + 0.1 * var,
    }


@pytest.mark.parametrize(
    ("kind", "groups"),
    [pytest.param("batch", 0, marks=pytest.mark.slow), ("group", 2), ("layer", 1)],
)
def test_norms_equal_their_formulas(key, kind, groups):
    x = np.asarray(jax.random.normal(key, (4, 3, 5, CHANNELS)) * 2 + 1, np.float64)
    folded = x.reshape(4, 15, groups, -1) if groups else x.reshape(1, 60, CHANNELS, 1)
    axes = (1, 3)
    folded = folded - folded.mean(axes, keepdims=True)
    folded /= np.sqrt((folded**2).mean(axes, keepdims=True) + 1e-5)
    found = normalise(NORMS[kind](CHANNELS), jnp.float32(x), jnp.ones(4))
    np.testing.assert_allclose(found, folded.reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize("kind", NORMS)
def test_norms_keep_the_dtype_and_their_parameters_in_float32(kind):
    def after(x, row_weights):
        norm = NORMS[kind](CHANNELS)
        return normalise(norm, x, row_weights), nnx.state(norm)

    x = jnp.ones((2, 3, 3, CHANNELS), jnp.bfloat16)
    for row_weights in (None, jnp.ones(2)):
        found, state = jax.eval_shape(after, x, row_weights)
        assert found.dtype == jnp.bfloat16
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("channels", [1, 3, 16, 64, 160, 2048])
def test_groups_divide_the_channels(channels):
    groups = NORMS["group"](channels).num_groups
    assert channels % groups == 0 and groups <= 32
    assert channels // groups >= min(4, channels)


@pytest.mark.parametrize("devices", [1, 3, 4])
def test_statistics_are_those_of_the_rows_that_count(devices):
    """Seven examples on three or four devices: padded rows change nothing."""
    ids = [1, 2, 3, 5, 8, 13, 21]
    gradient, after = statistics(batch_of(ids, devices=devices), devices)
    expected = moved({"mean": 0, "var": 1}, ids)
    np.testing.assert_allclose(after["mean"], expected["mean"], rtol=1e-5)
    np.testing.assert_allclose(after["var"], expected["var"], rtol=1e-5)
    alone, _ = statistics(batch_of(ids))
    np.testing.assert_allclose(gradient, alone, rtol=1e-4, atol=1e-6)
    assert np.abs(alone[ids]).max() > 1e-3


def all_reduces(norms):
    """The sums over two devices that share a batch, in a gradient through norms."""
    split = [nnx.split(NORMS["batch"](CHANNELS)) for _ in range(norms)]
    graphs, variables = zip(*split)

    def loss(variables, x, weights):
        for graph, each in zip(graphs, variables):
            x = jnp.tanh(normalise(nnx.merge(graph, each, copy=True), x, weights))
        return jnp.square(x).sum()

    mesh = make_mesh("data:2")
    rows = NamedSharding(mesh, PartitionSpec("data"))
    placed = jax.device_put(
        (variables, jnp.ones((4, 3, 3, CHANNELS)), jnp.ones(4)),
        (replicated(mesh), rows, rows),
    )
    program = jax.jit(jax.grad(loss, (0, 1)), compiler_options=QUICK).lower(*placed)
    return len(re.findall(r" all-reduce\(", program.compile().as_text()))


def test_devices_sum_once_for_a_norm_and_once_for_its_gradient():
    assert all_reduces(3) - all_reduces(1) == 4


@partial(jax.jit, compiler_options=QUICK)
def after_a_batch(x, start):
    """Normalised values and running statistics, of which the mean began at `start`."""
    norm = NORMS["batch"](CHANNELS)
    norm.mean[...] = jnp.full(CHANNELS, start)
    found = normalise(norm, x, jnp.ones(len(x)))
    return found, norm.mean[...], norm.var[...]


@pytest.mark.parametrize("start", [1000.0, 990.0, 0.0])
@pytest.mark.parametrize("dims", [(), (5, 7)])
def test_statistics_of_a_large_mean_are_within_their_bound(dims, start):
    """Float64 NumPy is the reference; digits are lost in proportion to mean^2."""
    values = np.random.default_rng(0).normal(1000, 1, (33, *dims, CHANNELS))
    x = values.astype(np.float32)
    found = [np.asarray(each, np.float64) for each in after_a_batch(x, start)]
    rows = x.astype(np.float64).reshape(-1, CHANNELS)
    mean, var = rows.mean(0), rows.var(0)
    # The running variance itself is rounded to 6e-8, a tenth of which is the batch's.
    bound = 5e-7 * (var + (mean - start) ** 2) + 6e-7
    assert (np.abs((found[2] - 0.9) / 0.1 - var) <= bound).all()
    np.testing.assert_allclose(found[1], 0.9 * start + 0.1 * mean, rtol=1e-6)
    if start:  # The relative error of a variance is then at most 5e-5.
        expected = (rows - mean) / np.sqrt(var + 1e-5)
        np.testing.assert_allclose(found[0].reshape(rows.shape), expected, atol=3e-4)


@pytest.mark.slow
def test_what_padded_rows_hold_changes_no_other_row(key):
    images = jnp.arange(5, dtype=jnp.float32).reshape(-1, 1, 1, 1)
    weights = jnp.array([1.0, 1, 1, 0, 0])
    other = images.at[3:].add(7)
    results = [
        NETWORK.forward(NETWORK.params, NETWORK.stats, x, identity, weights)
        for x in (images, other)
    ]
    for one, two in zip(*(jax.tree.leaves((y[:3], stats)) for y, stats in results)):
        np.testing.assert_array_equal(one, two)


def test_microbatches_move_the_statistics_one_after_another():
    _, after = statistics(batch_of(range(12), parts=3))
    running = {"mean": 0, "var": 1}
    for part in np.arange(12).reshape(3, 4):
        running = moved(running, part)
    np.testing.assert_allclose(after["mean"], running["mean"], rtol=1e-5)
    np.testing.assert_allclose(after["var"], running["var"], rtol=1e-5)


@pytest.mark.parametrize("mode", ["eval", "mc", "shared_mc"])
def test_no_evaluation_moves_a_statistic(mode):
    rows = resolve(parse("fc:bernoulli:0.5"), SITES)
    images = jnp.arange(5, dtype=jnp.float32).reshape(-1, 1, 1, 1)
    moment = Moment(jax.random.key(0), jnp.arange(5), 0, 0, 1)
    drop = bind(rows, moment, mode)
    logits, stats = NETWORK.forward(NETWORK.params, NETWORK.stats, images, drop)
    for one, two in zip(jax.tree.leaves(stats), jax.tree.leaves(NETWORK.stats)):
        np.testing.assert_array_equal(one, two)
    # At the start they are mean 0 and variance 1: each row by itself.
    if mode == "eval":
        np.testing.assert_allclose(logits, TABLE[:5], rtol=1e-4)


def take(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


@pytest.mark.slow
def test_members_of_a_population_have_statistics_of_their_own():
    scales = jnp.arange(1.0, 4.0)
    params = jax.vmap(lambda scale: {**NETWORK.params, "table": scale * TABLE})(scales)
    stats = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), NETWORK.stats)
    images = jnp.arange(6, dtype=jnp.float32).reshape(-1, 1, 1, 1)

    def member(params, stats, key):
        rows, moment = (
            resolve(parse("fc:bernoulli:0.5"), SITES),
            Moment(key, jnp.arange(6), 0, 0),
        )
        drop = bind(rows, moment)
        return NETWORK.forward(params, stats, images, drop, jnp.ones(6))

    keys = jax.random.split(jax.random.key(3), 3)
    together = jax.jit(jax.vmap(member))(params, stats, keys)
    alone = [member(*take((params, stats, keys), number)) for number in range(3)]
    for number, expected in enumerate(alone):
        found = take(together, number)
        for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
