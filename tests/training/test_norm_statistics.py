"""The variance shift of batch norms after dropout, and statistics without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from variant_cases import QUICK

from dropout import Timeline, identity, parse, resolve
from dropout.grammar import Call
from models.norms import NORMS, normalise
from training.data.splits import ArraySplit
from training.network import functional
from training.norm_statistics import (
    make_batch_statistics,
    statistics_over,
    variance_shift,
)
from training.objective import Objective
from training.optimizer import make_optimizer
from training.state import Batch, initial_state
from training.step import accumulate

MEAN, VARIANCE, COUNT = 0.4, 1.3, 4096


class Normed(nnx.Module):
    """Images of one pixel and 16 channels, dropped and then normalised."""

    def __init__(self):
        self.norm = NORMS["batch"](16)

    def __call__(self, images, drop=identity, row_weights=None):
        return normalise(self.norm, drop("fc", images[:, 0, 0]), row_weights)


IMAGES = (
    np.random.default_rng(0)
    .normal(MEAN, np.sqrt(VARIANCE), (COUNT, 1, 1, 16))
    .astype(np.float32)
)
SPLIT = ArraySplit(IMAGES, np.zeros(COUNT, np.int32))


def trained(plan):
    """An objective, and a state whose statistics have followed 60 batches."""
    network, timeline = functional(Normed(), (1, 1, 16)), Timeline(60, 6)
    rows = resolve(parse(plan), ("fc",))
    goal = Objective(network.forward, lambda x: x, rows, timeline, "hash", 0.0)
    optimizer = make_optimizer(Call("sgd"), lambda _: 0.1, 0.0, 0.0)
    state = initial_state(network.params, network.stats, optimizer)
    ids = jnp.arange(COUNT)[None]
    arrays = jnp.asarray(SPLIT.images[None]), jnp.asarray(SPLIT.labels[None])
    batch = Batch(*arrays, ids, jnp.ones((1, COUNT)))
    follow = jax.jit(
        lambda state, key: accumulate(goal, state, batch, key)[1],
        compiler_options=QUICK,
    )
    for step in range(60):
        state = state._replace(stats=follow(state, jax.random.key(step)))
    return goal, state


@pytest.mark.parametrize(
    ("plan", "factor"),
    [("none", 1.0), ("fc:bernoulli:0.2", 0.8), ("fc:uniform:0.1", 300 / 301)],
)
def test_the_shift_is_what_the_noise_adds(plan, factor):
    """With keep probability q the variance in training is (c^2 + v) / q - c^2; 65,536
    elements, so that a variance is known to 1 %."""
    goal, state = trained(plan)
    statistics = jax.jit(make_batch_statistics(goal), compiler_options=QUICK)
    met = statistics_over(statistics, state, SPLIT, np.arange(COUNT, dtype=np.int32))
    exact = IMAGES.reshape(COUNT, 16)
    np.testing.assert_allclose(met["norm"]["mean"], exact.mean(0), atol=1e-4)
    np.testing.assert_allclose(met["norm"]["var"], exact.var(0), rtol=1e-3)
    second = MEAN**2 + VARIANCE
    noisy = second / factor - MEAN**2
    expected = noisy / VARIANCE
    found = variance_shift(state.stats, met)
    assert float(found["norm"]) == pytest.approx(expected, rel=0.015)
