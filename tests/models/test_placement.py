"""Where the sites of a model are: around norms, non-linearities and whole layers."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import TINY, made, site_names
from variant_cases import QUICK

from dropout import identity
from dropout.grammar import Call, option_types, parse_call
from models import MODELS, constructor, create
from models.norms import NORMS

IMAGE, CLASSES, ROWS = (16, 16, 1), 3, 4


def takes_norm(text):
    return "norm" in option_types(constructor(MODELS[parse_call(text).name]))


NORMED = [text for text in TINY if takes_norm(text)]
DEEP = ("resnet", "shake_shake", "vgg", "wrn")  # Seconds to compile.
MARKED = [
    pytest.param(text, marks=pytest.mark.slow) if text.startswith(DEEP) else text
    for text in NORMED
]


def with_norm(text, norm):
    call = parse_call(text)
    return Call(call.name, (*call.options, ("norm", norm)))


def start(path, leaf):
    """Kernels are random, scales and variances 1, and the rest is 0."""
    name = path[-2].key
    if name == "kernel":
        normal = np.random.default_rng(len(path)).normal(size=leaf.shape)
        return np.float32(normal / np.sqrt(leaf.size / leaf.shape[-1]))
    return np.full(leaf.shape, name in ("scale", "var"), np.float32)


def values_at_sites(text):
    """Its sites in order, and what a network in training shows them."""
    call = with_norm(text, "batch") if takes_norm(text) else parse_call(text)
    make = partial(create, call, IMAGE, CLASSES, jax.random.key(0))
    model = nnx.eval_shape(make)
    graph, state = nnx.split(model)
    state = jax.tree_util.tree_map_with_path(start, state)

    def run(state, images):
        values = {}

        def drop(site, x, *others):
            values[site] = identity(site, x, *others)
            return values[site]

        weights = [jnp.ones(ROWS)] * takes_norm(text)
        nnx.merge(graph, state, copy=True)(images, drop, *weights)
        return values

    images = jax.random.normal(jax.random.key(1), (ROWS, *IMAGE))
    values = jax.jit(run, compiler_options=QUICK)(state, images)
    # A jitted function returns its dictionary in the order of the names.
    return {site: values[site] for site in site_names(str(call), IMAGE, CLASSES)}


@pytest.fixture(scope="module")
def seen():
    return cache(values_at_sites)


@pytest.mark.parametrize("text", ["mlp(widths=(6, 5))", *MARKED])
def test_a_site_before_a_non_linearity_sees_what_is_rectified(text, seen):
    values = seen(text)
    before = [site for site in values if site.endswith("/pre")]
    assert before
    for site in before:
        assert (values[site] < 0).any()
        rectified = values[site.removesuffix("/pre")]
        np.testing.assert_array_equal(rectified, np.maximum(values[site], 0))


def before_norm(site):
    """Whether a norm follows whose result has a site: a shortcut's is added at once."""
    return site.endswith("/prenorm") and not site.endswith("shortcut/prenorm")


def after_norm(site, values):
    """The site of a norm's result: in its layer, or that of the branch it ends."""
    layer = site.removesuffix("/prenorm")
    branch = f"{layer.rpartition('/')[0]}/branch"
    return next(name for name in (f"{layer}/pre", branch, layer) if name in values)


@pytest.mark.parametrize("text", MARKED)
def test_a_site_before_a_norm_is_followed_by_what_is_normal(text, seen):
    """Each channel of the next site has mean 0, and variance v / (v + 1e-5)."""
    values = seen(text)
    pairs = [(site, after_norm(site, values)) for site in values if before_norm(site)]
    assert pairs
    for before, after in pairs:
        axes = tuple(range(values[before].ndim - 1))
        var = values[before].var(axes)
        np.testing.assert_allclose(values[after].mean(axes), 0, atol=1e-4)
        np.testing.assert_allclose(
            values[after].var(axes), var / (var + 1e-5), atol=1e-3
        )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("text", MARKED)
def test_every_norm_fits_every_network_that_takes_one(text, norm):
    def logits(images):
        model = create(with_norm(text, norm), IMAGE, CLASSES, jax.random.key(0))
        return model(images, identity, jnp.ones(ROWS))

    assert jax.eval_shape(logits, jnp.ones((ROWS, *IMAGE))).shape == (ROWS, CLASSES)


@pytest.mark.slow
def test_a_layer_that_is_skipped_leaves_the_shallower_transformer(key):
    """Fan et al. 2020: attention and perceptron go together."""
    deep, shallow = (
        made(f"vit(patch=4, depth={depth})", IMAGE, CLASSES, key) for depth in (2, 1)
    )
    images = jax.random.normal(key, (ROWS, *IMAGE))

    def skip(site, x, *others):
        return x * 0 if site == "block2/branch" else identity(site, x, *others)

    np.testing.assert_array_equal(deep(images, skip), shallow(images))
    assert not np.allclose(deep(images), shallow(images), atol=1e-3)
