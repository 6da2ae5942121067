"""Laws over every model: its sites, its size, and what it cannot take."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropout import Moment, Timeline, bind, identity, kind_of, parse, rates_at, resolve
from dropout.grammar import parse_call
from models import MODELS, check_model, create

PUBLISHED = {"cnn": 225_034, "cnn_same": 421_642, "lenet": 431_080}
SMALLEST = {
    "cnn": 10, "cnn_same": 4, "lenet": 16, "plain": 4, "mlp": 1, "lstm": 1,
    "vit(patch=1)": 1, "gru": 1, "char_rnn": 1,
    "vit_tiny(patch=1, depth=1)": 1, "vit_small(patch=1, depth=1)": 1,
}  # fmt: skip


SHALLOW = {name: f"{name}(patch=7, depth=1)" for name in ("vit_tiny", "vit_small")}


def network(name, image=(28, 28, 1), classes=10):
    if name in SHALLOW:
        name = SHALLOW[name]
    return create(parse_call(name), image, classes, jax.random.key(0))


def parameters(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def record(model, image):
    calls = []

    def drop(site, x, *others, time=None):
        calls.append(site)
        return identity(site, x, *others)

    logits = jax.eval_shape(lambda x: model(x, drop), jnp.ones((2, *image)))
    return calls, logits


def answers(name, image, classes):
    """The shape of the logits for two images: a language model's has one set a row."""
    positions = image[:1] if name == "char_rnn" else ()
    return (2, *positions, classes)


@pytest.mark.parametrize("name", MODELS)
def test_declared_sites_are_those_called_once_each_in_order(name):
    model = network(name)
    calls, logits = record(model, (28, 28, 1))
    assert tuple(calls) == tuple(model.sites)
    assert len(set(calls)) == len(calls)
    assert logits.shape == answers(name, (28, 28, 1), 10)


@pytest.mark.parametrize("name", MODELS)
def test_the_keys_of_sites_differ(name):
    sites = network(name).sites
    assert len({zlib.crc32(site.encode()) for site in sites}) == len(sites)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    leaves = jax.tree.leaves(parameters(network(name)))
    assert sum(leaf.size for leaf in leaves) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "width", "published"),
    [("vit_tiny", 192, 5_717_416), ("vit_small", 384, 22_050_664)],
)
def test_transformers_have_the_published_size_less_the_class_token(
    name, width, published
):
    """On patches of 16 of 224x224 images; the token and its position are not here."""
    call, image = parse_call(f"{name}(patch=16)"), (224, 224, 3)
    make = lambda: nnx.state(create(call, image, 1000, jax.random.key(0)))  # noqa: E731
    leaves = jax.tree.leaves(jax.eval_shape(make))
    assert sum(leaf.size for leaf in leaves) == published - 2 * width


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name):
    size = SMALLEST[name]
    _, logits = record(network(name, (size, size + 3, 3), 7), (size, size + 3, 3))
    assert logits.shape == answers(name, (size, size + 3, 3), 7)
    if size > 1:
        with pytest.raises(ValueError, match=f"smallest .* is {size}x{size}"):
            network(name, (size - 1, 40, 3))


def test_every_model_has_a_smallest_size_here():
    assert {parse_call(text).name for text in SMALLEST} == set(MODELS)


def test_parameters_of_a_layer_depend_on_its_name_alone():
    two, three = (parameters(network(f"mlp(widths={w})")) for w in ((9, 8), (9, 8, 7)))
    for layer in ("fc1", "fc2"):
        np.testing.assert_array_equal(two[layer]["kernel"], three[layer]["kernel"])


def test_cnn_equals_its_formula_written_out(key):
    model = network("cnn(widths=(2, 3), dense=5)", (10, 11, 2), 4)
    weights = jax.tree.map(np.asarray, parameters(model))
    images = np.asarray(jax.random.normal(key, (2, 10, 11, 2)))

    def stage(x, layer):
        kernel, h, w = layer["kernel"], x.shape[1] - 2, x.shape[2] - 2
        taps = [
            np.einsum("nhwi,io->nhwo", x[:, r : r + h, c : c + w], kernel[r, c])
            for r in range(3)
            for c in range(3)
        ]
        y = np.maximum(sum(taps) + layer["bias"], 0)[:, : h // 2 * 2, : w // 2 * 2]
        return y.reshape(2, h // 2, 2, w // 2, 2, -1).max((2, 4))

    x = stage(stage(images, weights["conv1"]), weights["conv2"]).reshape(2, -1)
    x = np.maximum(x @ weights["fc"]["kernel"] + weights["fc"]["bias"], 0)
    expected = x @ weights["out"]["kernel"] + weights["out"]["bias"]
    np.testing.assert_allclose(model(jnp.asarray(images)), expected, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_dropout_at_every_site_trains_under_jit(name):
    """One gradient with a bernoulli rule at each site that it can act on."""
    model = network(name)
    acting = [s for s in model.sites if kind_of(s) in ("activation", "kernel", "pre")]
    rows = resolve(parse(" ".join(f"{s}:bernoulli:0.2" for s in acting)), model.sites)
    images = jax.random.normal(jax.random.key(1), (4, 28, 28, 1))

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradient(images, step):
        moment = Moment(jax.random.key(2), jnp.arange(4), 0, step)
        drop = bind(rows, rates_at(rows, step, Timeline(10, 5)), moment)
        return jax.grad(lambda x: (model(x, drop) ** 2).sum())(images)

    first = gradient(images, 0)
    assert bool(jnp.isfinite(first).all()) and float(jnp.abs(first).max()) > 0
    assert (first != gradient(images, 5)).any()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cnnn", ["'cnnn'", "'cnn'", *MODELS]),
        ("cnn(width=3)", ["'width'", "'widths'"]),
        ("cnn(widths=3)", ["widths=3", "tuple"]),
        ("mlp(widths=(3, 'x'))", ["tuple"]),
    ],
)
def test_a_malformed_model_is_one_line_that_says_what_is_allowed(text, names):
    with pytest.raises(ValueError) as raised:
        check_model(parse_call(text))
    assert all(name in str(raised.value) for name in names), raised.value


@pytest.mark.parametrize(
    "text", ["cnn(widths=(3,))", "mlp(widths=(0,))", "lstm(units=0)", "vit(depth=0)"]
)
def test_widths_that_make_no_network_are_refused(text):
    with pytest.raises(ValueError, match="at least 1"):
        network(text)
