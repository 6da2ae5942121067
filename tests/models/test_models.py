"""Laws over every model: its sites, its size, and what it refuses."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import TINY, site_names, sites_of
from sampling import sampled

from dropout import kind_of
from dropout.grammar import parse_call
from models import MODELS, check_model, create

IMAGE = (28, 28, 1)
DIGITS, CIFAR, IMAGENET = (IMAGE, 10), ((32, 32, 3), 10), ((224, 224, 3), 1000)
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
# Quick to trace.
SHALLOW = (
    "cnn", "cnn_same", "lenet", "all_conv", "vgg", "resnet", "wrn",
    "resnet_imagenet(depth=18)",
)  # fmt: skip
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


def logits_shape(text, image, classes):
    return jax.eval_shape(
        lambda x: network(text, image, classes)(x), jnp.ones((2, *image))
    ).shape


def expected_shape(text, image, classes):
    """For two images; a language model has logits at each row."""
    positions = image[:1] if parse_call(text).name == "char_rnn" else ()
    return (2, *positions, classes)


@pytest.mark.parametrize("text", TINY)
def test_the_keys_of_sites_differ(text):
    names = site_names(text)
    assert len({zlib.crc32(name.encode()) for name in names}) == len(names)


@pytest.mark.parametrize("text", TINY)
def test_the_path_of_every_kernel_is_its_site(text):
    params = parameters(abstract(text))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
    kernels = {name: shape for name, shape in shapes.items() if "kernel" in name}
    called = {site.name: site.shape for site in sites_of(text)}
    assert kernels == {n: s for n, s in called.items() if kind_of(n) == "kernel"}


SITES = {
    "cnn": """input conv1/kernel conv1/act conv1 pool1/window pool1 conv2/kernel
        conv2/act conv2 pool2/window pool2 fc/kernel fc/pre fc/act fc out/kernel""",
    "mlp(widths=(6, 5))": """input fc1/kernel fc1/pre fc1/act fc1 fc2/kernel fc2/pre
        fc2/act fc2 out/kernel""",
    "lstm": """input rows lstm/kernel lstm/recurrent/kernel lstm/hidden lstm/candidate
        lstm/cell/state lstm/state features out/kernel""",
    "gru": """input rows gru/kernel gru/recurrent/kernel gru/hidden gru/candidate
        gru/state features out/kernel""",
    "vit(depth=1)": """input patches/kernel tokens block1/attention/qkv/kernel
        block1/attention/logits block1/attention/weights block1/attention
        block1/attention/out/kernel block1/attention/branch block1/mlp/hidden/kernel
        block1/mlp/act block1/mlp block1/mlp/out/kernel block1/mlp/branch block1/branch
        features out/kernel""",
}


@pytest.mark.parametrize("text", SITES)
def test_the_sites_of_well_known_networks(text):
    """Plans name them: a renamed or reordered site would change recorded runs."""
    assert site_names(text) == tuple(SITES[text].split())


# The layer that computes with an activation, which is not always the next one called.
READERS = {
    "resnet_imagenet(depth=14, width=4)": {
        "block1/branch": "block2/conv1/kernel",  # Its shortcut is projected.
        "block2/branch": "block3/conv1/kernel",
        "block4/branch": "out/kernel",
        "block2/conv1": "block2/conv2/kernel",
    },
    "resnet(depth=8, width=4)": {"block1/branch": "block2/conv1/kernel"},
    "wrn(depth=10, width=2)": {
        "block1/branch": "block2/conv1/kernel",
        "block1/act1": "block1/conv1/kernel",
        "block1/act2": "block1/conv2/kernel",
        "block3/branch": "out/kernel",
    },
    "shake_shake(depth=8, width=4)": {
        "block1/path1/branch": "block2/path1/conv1/kernel",
        "block1/path2/branch": "block2/path1/conv1/kernel",
        "block3/path1/branch": "out/kernel",
        "block2/path1/conv1": "block2/path1/conv2/kernel",
    },
    "lstm": {
        "rows": "lstm/kernel",
        "lstm/hidden": "lstm/recurrent/kernel",
        "lstm/candidate": "lstm/recurrent/kernel",
        "features": "out/kernel",
    },
    "char_rnn(cell='gru', layers=2)": {
        "tokens": "gru1/kernel",
        "gru1/hidden": "gru1/recurrent/kernel",
        "gru1/candidate": "gru1/recurrent/kernel",
        "gru1": "gru2/kernel",
        "gru2/hidden": "gru2/recurrent/kernel",
    },
}


@pytest.mark.parametrize("text", READERS)
def test_an_activation_names_the_kernel_that_reads_it(text):
    readers = {site.name: site.reader for site in sites_of(text)}
    assert {name: readers[name] for name in READERS[text]} == READERS[text]


@pytest.mark.parametrize("name", sampled(PUBLISHED, SHALLOW))
def test_parameter_counts_are_the_published_ones(name):
    (image, classes), count = PUBLISHED[name]
    leaves = jax.tree.leaves(parameters(abstract(name, image, classes)))
    assert sum(leaf.size for leaf in leaves) == count


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("vit_tiny(patch=16, class_token=True)", 5_717_416),
        ("vit_tiny(patch=16)", 5_717_416 - 2 * 192),
        ("vit_small(patch=16)", 22_050_664 - 2 * 384),
    ],
)
def test_transformers_have_the_published_size(text, published):
    """On patches of 16 of 224x224 images; less a class token and its position."""
    call, image = parse_call(text), (224, 224, 3)
    make = lambda: nnx.state(create(call, image, 1000, jax.random.key(0)))  # noqa: E731
    leaves = jax.tree.leaves(jax.eval_shape(make))
    assert sum(leaf.size for leaf in leaves) == published


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name):
    size = SMALLEST[name]
    case = name, (size, size + 3, 3), 7
    assert logits_shape(*case) == expected_shape(*case)
    if size > 1:
        with pytest.raises(ValueError, match=f"smallest .* is {size}x{size}"):
            network(name, (size - 1, 40, 3))


@pytest.mark.parametrize("cases", [SMALLEST, TINY], ids=["SMALLEST", "TINY"])
def test_every_model_is_tested(cases):
    assert {parse_call(text).name for text in cases} == set(MODELS)


@pytest.mark.parametrize("text", TINY)
def test_logits_have_one_set_per_image_or_position(text):
    assert logits_shape(text, IMAGE, 10) == expected_shape(text, IMAGE, 10)


@pytest.mark.slow
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
