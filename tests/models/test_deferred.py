"""Dropout between a convolution and its pooling, which draw it in one loop."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import made
from sampling import sampled

from dropout import VARIANTS, Moment, bind, parse, record_sites, resolve
from dropout.deferred import Deferred, as_array
from dropout.nnx import attach
from models import convolution as fast

COMPILER = fast.compiler_options()
KEY = jax.random.key(11)
ROWS, IMAGE = 3, (13, 12, 1)  # The maps have odd sides.
NETWORKS = (
    "cnn(widths=(5, 6), dense=7)",
    "plain(depth=3, width=4)",
    "vgg(depth=11, width=2, dense=4, norm='none')",
)
MAPS = [
    name
    for name, entry in VARIANTS.items()
    if "activation" in entry.kinds and entry.learned is None
]

MULTIPLYING = [name for name in MAPS if VARIANTS[name].multiplies]


def stage(x, kernel, bias, rate, name, rectify, deferred):
    """A stage with a variant; its first part deferred, or as arrays by XLA alone."""
    if deferred:
        x = fast.deferred_convolution(x, kernel, padding="VALID")
        x = fast.add_bias(x, bias)
        x = VARIANTS[name](KEY, fast.relu(x) if rectify else x, rate)
        return fast.max_pool(x)
    x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = VARIANTS[name](KEY, jax.nn.relu(x + bias) if rectify else x + bias, rate)
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@functools.cache
def pulled(name, rectify, deferred):
    def function(rate, x, kernel, bias):
        whole = partial(stage, rate=rate, name=name, rectify=rectify, deferred=deferred)
        y, pull = jax.vjp(whole, x, kernel, bias)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    return jax.jit(function, compiler_options=COMPILER)


@pytest.mark.parametrize("rectify", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("name", sampled(MULTIPLYING, ["bernoulli"]))
def test_pooling_draws_what_the_variant_draws(name, rectify):
    """Values and gradients, also where all of a window is dropped, and at rate 1."""
    keys = jax.random.split(KEY, 3)
    shapes = (ROWS, 8, 7, 2), (3, 3, 2, 5), (1, 1, 1, 5)
    arrays = [jax.random.normal(k, shape) for k, shape in zip(keys, shapes)]
    for rate in map(jnp.float32, (0.0, 0.5, 1.0)):
        found, expected = (
            pulled(name, rectify, deferred)(rate, *arrays) for deferred in (True, False)
        )
        np.testing.assert_array_equal(found[0] == 0, expected[0] == 0)
        for result, reference in zip(found, expected, strict=True):
            scale = np.abs(reference).max()
            np.testing.assert_allclose(result, reference, rtol=0, atol=4e-6 * scale)


@pytest.mark.parametrize("name", sampled(MAPS, ("bernoulli", "max_dropout")))
def test_a_variant_is_given_what_it_can_take(name):
    """Only one that says that it multiplies leaves a convolution deferred."""
    left = []

    def trace(x, kernel):
        x = fast.deferred_convolution(x, kernel, padding="VALID")
        left.append(isinstance(VARIANTS[name](KEY, x, 0.3), Deferred))

    jax.eval_shape(trace, jnp.ones((ROWS, 8, 8, 1)), jnp.ones((3, 3, 1, 4)))
    assert left == [VARIANTS[name].multiplies]


@functools.cache
def network(text):
    model = made(text, IMAGE, 10, KEY)
    names = tuple(s.name for s in record_sites(partial(model, images())))
    return model, names


def images():
    return jax.random.normal(KEY, (ROWS, *IMAGE))


def dropper(text, plan):
    moment = Moment(KEY, jnp.arange(ROWS), 0, 0)
    return bind(resolve(parse(plan), network(text)[1]), moment)


@pytest.mark.slow
@pytest.mark.parametrize("text", sampled(NETWORKS, NETWORKS[:1]))
def test_a_drop_of_a_user_gets_arrays_alone(text):
    model, names = network(text)
    plan, called = dropper(text, "conv*:bernoulli:0.2"), []

    @functools.wraps(plan)
    def drop(site, x, *others, **options):
        called.append(site)
        y = plan(site, x, *others, **options)
        assert isinstance(x, jax.Array) and isinstance(y, jax.Array), site
        return y

    jax.eval_shape(lambda x: model(x, drop), images())
    assert tuple(called) == names


@pytest.mark.slow
def test_outside_of_jit_everything_is_an_array():
    model, _ = network(NETWORKS[0])
    assert isinstance(model.conv1(images(), dropper(NETWORKS[0], "none")), jax.Array)


@pytest.mark.parametrize("text", NETWORKS[:1])
def test_the_backward_pass_keeps_no_mask(text):
    """What a rule at both convolutions adds to it is less than a bit per element."""
    model, _ = network(text)
    graph, params = nnx.split(model)

    def kept(plan):
        drop = dropper(text, plan)
        function = jax.jit(lambda p, x: nnx.merge(graph, p)(x, drop))
        pull = jax.eval_shape(lambda p, x: jax.vjp(function, p, x)[1], params, images())
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))

    activation = ROWS * 11 * 10 * 5
    for variant in ("bernoulli", "spatial", "gaussian"):
        added = kept(f"conv1:{variant}:0.3 conv2:{variant}:0.3") - kept("none")
        assert added < activation / 8, variant


def test_a_deferred_convolution_is_a_tree_that_transforms_may_pass_on():
    x, kernel = jnp.ones((2, 8, 8, 1)), jnp.ones((3, 3, 1, 4))

    def passed_on(x, kernel):
        x = fast.relu(fast.deferred_convolution(x, kernel, padding="SAME"))
        x = VARIANTS["spatial"](KEY, x, 0.5)
        same = jax.checkpoint(lambda deferred: deferred)(x)
        assert isinstance(same, Deferred) and same.shape == (2, 8, 8, 4)
        return as_array(x), as_array(same)

    one, other = jax.jit(passed_on)(x, kernel)
    assert (one == 0).any() and (one > 9).any()
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_what_is_done_in_another_order_is_done_to_the_array():
    """Noise, bias, ReLU, and noise again: the last of them once more by hand."""
    x = jax.random.normal(KEY, (2, 6, 6, 1))
    kernel, bias = jax.random.normal(KEY, (3, 3, 1, 4)), jnp.full((1, 1, 1, 4), -0.5)

    def twice(convolve):
        y = VARIANTS["spatial"](KEY, convolve(x, kernel, padding="VALID"), 0.5)
        y = fast.relu(fast.add_bias(y, bias))
        y = VARIANTS["bernoulli"](KEY, VARIANTS["word"](KEY, y, 0.2), 0.2)
        return fast.max_pool(fast.add_bias(fast.relu(y), bias))

    lazily = jax.jit(
        lambda: twice(jax.jit(fast.deferred_convolution, static_argnames="padding"))
    )
    found, expected = lazily(), twice(fast.convolution)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_attach_acts_on_the_output_of_a_convolution_that_is_pooled():
    model = made(NETWORKS[0], IMAGE, 10, KEY)
    attached = attach(model, "conv1:bernoulli:1.0", images())
    moment = Moment(KEY, jnp.arange(ROWS), 0, 0)
    logits = jax.jit(lambda x: attached(model, x, moment=moment))(images())
    np.testing.assert_array_equal(logits, np.broadcast_to(logits[:1], logits.shape))
