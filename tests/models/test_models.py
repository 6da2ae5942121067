"""Laws over every model: its sites, its size, and what it cannot take."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import TINY

from dropout import identity
from dropout.grammar import parse_call
from models import MODELS, check_model, create

DIGITS, CIFAR, IMAGENET = ((28, 28, 1), 10), ((32, 32, 3), 10), ((224, 224, 3), 1000)
PUBLISHED = {
    "cnn": (DIGITS, 225_034),
    "cnn_same": (DIGITS, 421_642),
    "lenet": (DIGITS, 431_080),
    "all_conv": (CIFAR, 1_369_738),  # 1.37 M
    "vgg": (CIFAR, 14_991_946),
    "resnet": (CIFAR, 269_722),  # 0.27 M
    "resnet(depth=32)": (CIFAR, 464_154),  # 0.46 M
    "resnet(depth=56)": (CIFAR, 853_018),  # 0.85 M
    "resnet(depth=110)": (CIFAR, 1_727_962),  # 1.7 M
    "resnet_imagenet(depth=18)": (IMAGENET, 11_689_512),
    "resnet_imagenet(depth=34)": (IMAGENET, 21_797_672),
    "resnet_imagenet": (IMAGENET, 25_557_032),
    "wrn(depth=28, width=10)": (CIFAR, 36_479_194),  # 36.5 M
    "wrn": (CIFAR, 2_748_890),  # 2.7 M
    "shake_shake": (CIFAR, 2_923_162),  # 2.9 M
}
SMALLEST = {
    "cnn": 10, "cnn_same": 4, "lenet": 16, "plain": 4, "all_conv": 9, "mlp": 1,
    "vgg(depth=11)": 1, "resnet(depth=8)": 1, "resnet_imagenet(depth=10)": 1,
    "wrn(depth=10)": 1, "shake_shake(depth=8)": 1,
    "lstm": 1, "vit(patch=1)": 1, "gru": 1, "char_rnn": 1,
    "vit_tiny(patch=1, depth=1)": 1, "vit_small(patch=1, depth=1)": 1,
}  # fmt: skip


def network(name, image=(28, 28, 1), classes=10):
    return create(parse_call(name), image, classes, jax.random.key(0))


def abstract(name, image=(28, 28, 1), classes=10):
    """A network whose arrays have shapes but no values."""
    return nnx.eval_shape(lambda: network(name, image, classes))


def parameters(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def record(model, image):
    calls = []

    def drop(site, x, *others, time=None):
        calls.append(site)
        return identity(site, x, *others)

    graph, state = nnx.split(model)
    logits = jax.eval_shape(
        lambda state, x: nnx.merge(graph, state, copy=True)(x, drop),
        state,
        jnp.ones((2, *image)),
    )
    return calls, logits


def answers(name, image, classes):
    """The shape of the logits for two images: a language model's has one set a row."""
    positions = image[:1] if name == "char_rnn" else ()
    return (2, *positions, classes)


@pytest.mark.parametrize("text", TINY)
def test_declared_sites_are_those_called_once_each_in_order(text):
    name, model = parse_call(text).name, abstract(text)
    calls, logits = record(model, (28, 28, 1))
    assert tuple(calls) == tuple(model.sites)
    assert len(set(calls)) == len(calls)
    assert logits.shape == answers(name, (28, 28, 1), 10)


@pytest.mark.parametrize("text", TINY)
def test_the_keys_of_sites_differ(text):
    sites = abstract(text).sites
    assert len({zlib.crc32(site.encode()) for site in sites}) == len(sites)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    (image, classes), count = PUBLISHED[name]
    leaves = jax.tree.leaves(parameters(abstract(name, image, classes)))
    assert sum(leaf.size for leaf in leaves) == count


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
    _, logits = record(abstract(name, (size, size + 3, 3), 7), (size, size + 3, 3))
    assert logits.shape == answers(name, (size, size + 3, 3), 7)
    if size > 1:
        with pytest.raises(ValueError, match=f"smallest .* is {size}x{size}"):
            network(name, (size - 1, 40, 3))


@pytest.mark.parametrize("cases", [SMALLEST, TINY], ids=["SMALLEST", "TINY"])
def test_every_model_is_tested(cases):
    assert {parse_call(text).name for text in cases} == set(MODELS)


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
    ("text", "allowed"),
    [
        *((text, "at least 1") for text in (
            "cnn(widths=(3,))", "mlp(widths=(0,))", "lstm(units=0)", "vit(depth=0)",
            "all_conv(widths=(3,))", "vgg(width=0)", "resnet(width=0)",
        )),
        ("resnet(depth=21)", r"8, 14, 20, \.\.\. \(6 n \+ 2\)"),
        ("wrn(depth=20)", r"10, 16, 22, \.\.\. \(6 n \+ 4\)"),
        ("shake_shake(depth=1)", r"8, 14, 20, \.\.\."),
        ("shake_shake(width=1)", "at least 2"),
        ("vgg(depth=12)", "11, 13, 16, 19"),
        ("resnet_imagenet(depth=20)", "10, 14, 18, 34, 50, 101"),
    ],
)  # fmt: skip
def test_options_that_make_no_network_are_refused(text, allowed):
    with pytest.raises(ValueError, match=allowed):
        network(text)
