"""What inference rules mean: exact identities on networks small enough to enumerate,
and normalisation that Monte-Carlo evaluation leaves alone."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import sampled
from scipy.special import log_softmax, logsumexp
from test_norms import NETWORK
from variant_cases import QUICK

from dropout import Moment, Timeline, bind, identity, parse, resolve, rows_at
from dropout.grammar import parse_call
from training.network import build

KEY = jax.random.key(9)
UNITS, RATE = 6, 0.4


@pytest.fixture(scope="module")
def tiny():
    """A softmax network with one hidden layer of six units, and its forward pass."""
    network = build(parse_call(f"mlp(widths=({UNITS},))"), (2, 2, 1), 3, KEY)
    params = jax.tree.map(lambda leaf: 2 * leaf, network.params)

    def logits(images, drop):
        return network.forward(params, network.stats, images, drop)[0]

    return network, logits


def rows_of(plan, network):
    """The rows of a plan at a network's sites, with their rates at the first step."""
    names = tuple(site.name for site in network.sites)
    return rows_at(resolve(parse(plan), names), 0, Timeline(1, 1))


def thinned(tiny, images):
    """The logits of every thinned network, and how probable each is."""
    _, logits = tiny
    for mask in product((0.0, 1.0), repeat=UNITS):

        def drop(site, x, *others, mask=mask, **options):
            if site == "fc1":
                return x * jnp.asarray(mask)[None] / (1 - RATE)
            return identity(site, x, *others)

        chance = (1 - RATE) ** sum(mask) * RATE ** (UNITS - sum(mask))
        yield chance, np.float64(logits(images, drop))


def scaled(tiny, images):
    network, logits = tiny
    rows = rows_of(f"fc1:bernoulli:{RATE}", network)
    return np.float64(logits(images, bind(rows, None, "scaling")))


def test_weight_scaling_is_the_geometric_mean_of_all_thinned_networks(tiny):
    """With one hidden layer and a softmax, exactly (Hinton et al. 2012)."""
    images = jax.random.normal(KEY, (5, 2, 2, 1))
    chances, logits = zip(*thinned(tiny, images))
    assert len(chances) == 2**UNITS and abs(sum(chances) - 1) < 1e-12
    geometric = sum(
        chance * log_softmax(each, axis=-1) for chance, each in zip(chances, logits)
    )
    geometric = geometric - logsumexp(geometric, axis=-1, keepdims=True)
    exact = log_softmax(scaled(tiny, images), axis=-1)
    np.testing.assert_allclose(exact, geometric, atol=1e-6)
    weights = np.asarray(chances)[:, None, None]
    arithmetic = (weights * np.exp(log_softmax(np.stack(logits), axis=-1))).sum(0)
    assert abs(np.log(arithmetic) - geometric).max() > 1e-2


def test_monte_carlo_averages_all_thinned_networks(tiny):
    """Within five standard errors of 8,192 samples of each probability."""
    network, logits = tiny
    images, samples = jax.random.normal(KEY, (3, 2, 2, 1)), 8192
    chances, every = zip(*thinned(tiny, images))
    each = np.exp(log_softmax(np.stack(every), axis=-1))
    weights = np.asarray(chances)[:, None, None]
    mean = (weights * each).sum(0)
    deviation = np.sqrt((weights * (each - mean) ** 2).sum(0))
    rows = rows_of(f"fc1:bernoulli:{RATE}", network)

    def sample(draw):
        moment = Moment(KEY, jnp.arange(3), 0, 0, draw)
        return jax.nn.softmax(logits(images, bind(rows, moment, "mc")))

    found = jax.jit(jax.vmap(sample), compiler_options=QUICK)(
        jnp.arange(1, 1 + samples)
    )
    assert (abs(found.mean(0) - mean) < 5 * deviation / np.sqrt(samples)).all()


def normed(mode, ids, row_weights=None):
    """Features and statistics of a batch-normalised network under dropout in a mode."""
    rows = rows_of("fc:bernoulli:0.5", NETWORK)
    moment = Moment(KEY, jnp.asarray(ids), 0, 0, 1)
    drop = bind(rows, moment, mode)
    images = jnp.asarray(ids, jnp.float32).reshape(-1, 1, 1, 1)
    stats = jax.tree.map(lambda leaf: leaf + 0.5, NETWORK.stats)
    found, after = NETWORK.forward(NETWORK.params, stats, images, drop, row_weights)
    changed = jax.tree.map(lambda old, new: bool((old != new).any()), stats, after)
    return np.asarray(found), any(jax.tree.leaves(changed))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", sampled(["train", "eval", "scaling", "mc", "shared_mc"], ["mc"])
)
def test_the_mode_of_dropout_is_not_that_of_batch_norm(mode):
    ids = [3, 7, 11, 2, 5]
    alone, moved = normed(mode, ids)
    assert not moved
    assert normed(mode, ids, jnp.ones(5))[1]
    # By running statistics, whatever else is in the batch.
    others, _ = normed(mode, [7, 1, 3, 14])
    np.testing.assert_allclose(others[[2, 0]], alone[[0, 1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["eval", "scaling"])
def test_evaluation_without_samples_is_deterministic(mode):
    again = [normed(mode, [3, 7, 11])[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)
    sampled = normed("mc", [3, 7, 11])[0]
    assert abs(sampled - again[0]).max() > 0.1
    np.testing.assert_array_equal(sampled, normed("mc", [3, 7, 11])[0])
