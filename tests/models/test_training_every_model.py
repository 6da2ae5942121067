"""Every model trains with dropout at every site: jit, vmap, remat and four devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from model_cases import TINY
from sampling import sampled
from variant_cases import QUICK

from dropout import Moment, bind, kind_of, parse, resolve
from dropout.grammar import parse_call
from training.network import build
from training.runtime.devices import make_mesh

# What acts at each kind of site.
VARIANT = {
    "kernel": "dropconnect", "window": "max_pool", "state": "zoneout",
    "branches": "shake_shake", "branch": "drop_path", "logits": "dropkey",
    "weights": "attention", "act": "drop_activation",
}  # fmt: skip
IMAGE, CLASSES, ROWS, RATE, MEMBERS = (16, 16, 1), 3, 8, 0.1, 2
# Of unlike kinds; the first three are quick to trace.
UNLIKE = (
    "cnn(widths=(3, 4), dense=5)", "lstm(units=5)", "mlp(widths=(6, 5))",
    "vit(patch=4, width=8, depth=1, heads=2)",
)  # fmt: skip


def plan(sites):
    kinds = {site: kind_of(site) for site in sites}
    names = {
        site: VARIANT[kind] if kind in VARIANT else "bernoulli"
        for site, kind in kinds.items()
    }
    return " ".join(f"{site}:{name}:{RATE}" for site, name in names.items())


def trainer(network):
    """(params, stats, key, images) -> both after a step, the loss and its gradient."""
    sites = tuple(site.name for site in network.sites)
    rows = resolve(parse(plan(sites)), sites)
    assert len(rows) == len(sites)

    def loss(params, stats, key, images):
        drop = bind(rows, Moment(key, jnp.arange(ROWS), 0, 0))
        logits, stats = network.forward(params, stats, images, drop, jnp.ones(ROWS))
        return jnp.square(logits - 1).mean(), stats

    def step(params, stats, key, images, wrap=lambda function: function):
        gradient = jax.value_and_grad(wrap(loss), has_aux=True)
        (value, stats), slope = gradient(params, stats, key, images)
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, slope)
        return params, stats, value, slope

    return step


def start(text):
    network = build(parse_call(text), IMAGE, CLASSES, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (ROWS, *IMAGE))
    keys = jax.random.split(jax.random.key(2), MEMBERS)
    return network, images, keys


def population(text):
    """Two members, rematerialised, after two steps on four devices."""
    network, images, keys = start(text)
    remat = partial(trainer(network), wrap=jax.checkpoint)
    step = jax.jit(jax.vmap(remat, (0, 0, 0, None)), compiler_options=QUICK)
    mesh = make_mesh("data:4")
    everywhere = jax.NamedSharding(mesh, PartitionSpec())
    images = jax.device_put(images, jax.NamedSharding(mesh, PartitionSpec("data")))
    state = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * MEMBERS), (network.params, network.stats)
    )
    state, keys = jax.device_put((state, keys), everywhere)
    for _ in range(2):
        *state, loss, slope = step(*state, keys, images)
    return state, loss, slope


@pytest.mark.parametrize("text", sampled(TINY, UNLIKE[:3]))
def test_dropout_at_every_site_has_a_gradient(text):
    """Traced, not compiled: members, rematerialised."""
    network, images, keys = start(text)
    remat = partial(trainer(network), wrap=jax.checkpoint)
    member = jax.vmap(remat, (None, None, 0, None))
    params, stats, _, _ = jax.eval_shape(
        member, network.params, network.stats, keys, images
    )
    for one, two in ((params, network.params), (stats, network.stats)):
        many = jax.tree.map(lambda leaf: (MEMBERS, *leaf.shape), two)
        assert jax.tree.map(jnp.shape, one) == many


@pytest.mark.slow
@pytest.mark.parametrize("text", sampled(TINY, UNLIKE, pytest.mark.long))
def test_members_train_rematerialised_on_four_devices(text):
    """Each with masks and statistics of its own, and as it does alone on one."""
    network, images, keys = start(text)
    together, losses, slopes = population(text)
    step = jax.jit(trainer(network), compiler_options=QUICK)
    alone = network.params, network.stats
    for _ in range(2):
        *alone, loss, _ = step(*alone, keys[1], images)
    np.testing.assert_allclose(losses[1], loss, rtol=1e-4)
    for one, two in zip(*map(jax.tree.leaves, (together, alone))):
        np.testing.assert_allclose(one[1], two, rtol=1e-3, atol=1e-5)
    assert losses[0] != losses[1]
    for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(leaf).all(), path
        assert path[-1].key != "kernel" or (leaf != 0).any(), path
