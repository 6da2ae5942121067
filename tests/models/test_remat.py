"""Gradient checkpointing: the same numbers and masks, from less memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK

from dropout import Moment, bind, parse
from dropout.grammar import parse_call
from models.convolution import compiler_options
from training.canonical import canonical
from training.config import Config
from training.experiment import prepare
from training.network import build

IMAGE, CLASSES = (8, 8, 3), 4
KEY = jax.random.key(3)
NETWORKS = {
    "resnet(depth=8, width=4)": "block*:bernoulli:0.3 */branch:drop_path:0.5",
    "vit(patch=4, width=8, heads=2, depth=2)": "block*/attention/weights:bernoulli:0.3",
    "own_cases:Nested": "blocks/*/fc/kernel:bernoulli:0.2 blocks/*/norm:bernoulli:0.3",
}


def gradient_program(model, plan, remat):
    """A compiled function: gradient, statistics and logits of a pass of training."""
    network = build(parse_call(model), IMAGE, CLASSES, KEY, plan=parse(plan))
    forward = network.forward_by("direct", remat)

    def loss(params, stats, images):
        moment = Moment(KEY, jnp.arange(len(images)), 0, 0, 0)
        drop = bind(network.rows, moment, "train")
        weights = jnp.ones(len(images))
        logits, stats = forward(params, stats, images, drop, weights)
        return jnp.sum(jnp.cos(logits)), (stats, logits)

    images = jax.random.normal(jax.random.key(4), (6, *IMAGE))
    program = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    arguments = network.params, network.stats, images
    return program.lower(*arguments), arguments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "remat"),
    [
        ("own_cases:Nested", "blocks/*"),
        ("vit(patch=4, width=8, heads=2, depth=2)", "block*"),
        ("resnet(depth=8, width=4)", "block*"),
        ("resnet(depth=8, width=4)", "conv1 */conv1"),
    ],
)
def test_values_masks_and_gradients_stay(model, remat):
    found, barriers = [], []
    for patterns in ("", remat):
        lowered, arguments = gradient_program(model, NETWORKS[model], patterns)
        barriers.append(lowered.as_text().count("optimization_barrier"))
        found.append(lowered.compile()(*arguments))
    assert barriers[1] > barriers[0]
    for plain, again in zip(*map(jax.tree.leaves, found)):
        np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_less_memory_is_needed():
    """Of twelve blocks, 64 images: the temporary memory of the compiled program."""
    model = "vit(patch=2, width=16, heads=2, depth=12)"
    sizes = []
    for patterns in ("", "block*"):
        network = build(parse_call(model), (16, 16, 3), CLASSES, KEY)
        forward = network.forward_by("direct", patterns)

        def loss(params, images, forward=forward):
            drop = bind((), None, "eval")
            return jnp.sum(forward(params, {}, images, drop, jnp.ones(64))[0] ** 2)

        images = jnp.zeros((64, 16, 16, 3))
        program = jax.jit(jax.grad(loss), compiler_options=compiler_options())
        lowered = program.lower(network.params, images)
        sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    print(sizes)
    assert sizes[1] < 0.4 * sizes[0]


def test_a_pattern_that_matches_no_module_is_refused(tmp_path):
    config = Config(
        model="vit", dropout="none", remat="block1 blok2", cache_dir=str(tmp_path)
    )
    with pytest.raises(
        ValueError, match="--remat: no module matches 'blok2'.*'block2'"
    ):
        prepare(canonical(replace(config, mesh="data:1")))
