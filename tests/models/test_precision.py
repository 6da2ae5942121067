"""bfloat16: activations alone are of that type, and the same decisions are taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import TINY, site_names
from sampling import sampled

from dropout import Moment, bind, identity, parse, resolve
from dropout.grammar import parse_call
from models import create
from training.network import build, functional

IMAGE, CLASSES, ROWS = (16, 16, 1), 3, 4
UNLIKE = ("lstm(units=5)", "mlp(widths=(6, 5))", "resnet(depth=8, width=4)")


@pytest.mark.parametrize("text", sampled(TINY, UNLIKE))
def test_only_activations_are_of_the_compute_dtype(text):
    call, key, seen = parse_call(text), jax.random.key(0), {}

    def drop(site, x, *others, time=None, reader=""):
        y = identity(site, x, *others)
        seen[site] = {x.dtype, y.dtype}
        return y

    def train(images):
        network = functional(create(call, IMAGE, CLASSES, key), IMAGE, "bfloat16")

        def loss(params):
            logits, stats = network.forward(
                params, network.stats, images, drop, jnp.ones(ROWS)
            )
            return logits.sum(), (logits, stats)

        return jax.grad(loss, has_aux=True)(network.params)

    leaves = jax.tree.leaves(jax.eval_shape(train, jnp.ones((ROWS, *IMAGE))))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert seen and set.union(*seen.values()) == {jnp.dtype("bfloat16")}


@pytest.mark.slow
def test_masks_are_the_same_decisions():
    sites = site_names("mlp(widths=(6,))", IMAGE, CLASSES)
    rows = resolve(parse("input:bernoulli:0.3"), sites)
    inner = bind(rows, Moment(jax.random.key(1), jnp.arange(ROWS), 0, 0))
    images = jax.random.uniform(jax.random.key(2), (ROWS, *IMAGE), minval=1.0)
    dropped, logits = {}, {}

    def drop(site, x, *others):
        y = inner(site, x, *others)
        if site == "input":
            dropped[str(x.dtype)] = np.asarray(y == 0)
        return y

    call, key = parse_call("mlp(widths=(6,))"), jax.random.key(0)
    for dtype in ("float32", "bfloat16"):
        network = build(call, IMAGE, CLASSES, key, dtype)
        logits[dtype], _ = network.forward(network.params, {}, images, drop)
    assert 0.2 < dropped["float32"].mean() < 0.4
    np.testing.assert_array_equal(dropped["float32"], dropped["bfloat16"])
    # Eight bits of mantissa: each logit within a hundredth of their spread.
    difference = np.abs(logits["float32"] - logits["bfloat16"]).max()
    assert 0 < difference < 0.02 * np.abs(logits["float32"]).max()
