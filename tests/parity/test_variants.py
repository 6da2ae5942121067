"""Variants beside independent implementations of them: one distribution where the other
is right, the other's number where it is not. All samples have fixed seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import VARIANTS
from dropout.variants.block_seeds import covering_seeds
from parity.peers import ALPHA, peer, same_distribution, same_proportion

torch = peer("torch")
keras = peer("keras")
equinox = peer("equinox")
timm_layers = peer("timm.layers")
torchvision_ops = peer("torchvision.ops")

pytestmark = pytest.mark.parity

KEY = jax.random.key(71)
RATES = (0.1, 0.5, 0.8)
MAP = (256, 6, 5, 8)


def ours(name, x, rate, **options):
    return np.asarray(VARIANTS[name](KEY, jnp.asarray(x), rate, **options))


def channels_first(function, x, *arguments, **options):
    """A torch function on an array of channels last."""
    torch.manual_seed(0)
    axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
    tensor = torch.tensor(np.transpose(x, axes))
    y = function(tensor, *arguments, **options).detach().numpy()
    return np.moveaxis(y, 1, -1)


def in_keras(layer, x):
    return np.asarray(layer(x, training=True))


def in_equinox(x, rate):
    return np.asarray(equinox.nn.Dropout(rate)(jnp.asarray(x), key=jax.random.key(5)))


ONES = np.ones(MAP, np.float32)


def bernoulli_peers(rate):
    dropout = torch.nn.functional.dropout
    return {
        "torch": channels_first(dropout, ONES, rate, training=True),
        "keras": in_keras(keras.layers.Dropout(rate, seed=1), ONES),
        "equinox": in_equinox(ONES, rate),
    }


@pytest.mark.parametrize("rate", RATES)
def test_bernoulli(rate):
    y = ours("bernoulli", ONES, rate)
    for name, theirs in bernoulli_peers(rate).items():
        assert same_proportion(y == 0, theirs == 0) > ALPHA, name
        np.testing.assert_allclose(np.unique(y), np.unique(theirs), rtol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_spatial(rate):
    """Whole channels, as many as theirs."""
    y = ours("spatial", ONES, rate)
    dropout2d = torch.nn.functional.dropout2d
    for theirs in (
        channels_first(dropout2d, ONES, rate, training=True),
        in_keras(keras.layers.SpatialDropout2D(rate, seed=1), ONES),
    ):
        for sample in (y, theirs):
            assert (sample == sample[:, :1, :1]).all()
        assert same_proportion(y[:, 0, 0] == 0, theirs[:, 0, 0] == 0) > ALPHA
        np.testing.assert_allclose(np.unique(y), np.unique(theirs), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha(name, rate):
    """The line that kept elements lie on, the value of the others, and how many."""
    function = getattr(torch.nn.functional, name)
    rng = np.random.default_rng(0)
    x = rng.uniform(2, 3, MAP).astype(np.float32)
    theirs = channels_first(function, x, rate, training=True)
    y = ours(name.removesuffix("_dropout"), x, rate)
    # Dropped elements are negative, and kept ones of x >= 2 are not.
    for sample in (y, theirs):
        kept = sample > 0
        slope, shift = np.polyfit(x[kept], sample[kept], 1)
        a = -1.0507009873554805 * 1.6732632423543772
        assert abs(slope - ((1 - rate) * (1 + a * a * rate)) ** -0.5) < 1e-4
        assert abs(shift + slope * rate * a) < 1e-3
    np.testing.assert_allclose(y[y < 0].mean(), theirs[theirs < 0].mean(), rtol=1e-5)
    whole = name.startswith("feature")
    decisions = [s[:, 0, 0] < 0 if whole else s < 0 for s in (y, theirs)]
    assert same_proportion(*decisions) > ALPHA


@pytest.mark.parametrize("rate", RATES)
def test_gaussian(rate):
    theirs = in_keras(keras.layers.GaussianDropout(rate, seed=1), ONES)
    assert same_distribution(ours("gaussian", ONES, rate), theirs) > ALPHA


@pytest.mark.parametrize("rate", RATES)
def test_drop_path(rate):
    x = np.ones((4096, 3, 2), np.float32)
    y = ours("drop_path", x, rate)
    depth = torchvision_ops.stochastic_depth
    for theirs in (
        channels_first(timm_layers.drop_path, x, rate, training=True),
        channels_first(depth, x, rate, "row", training=True),
    ):
        assert same_proportion(y[:, 0, 0] == 0, theirs[:, 0, 0] == 0) > ALPHA
        np.testing.assert_allclose(np.unique(y), np.unique(theirs), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_patch(rate):
    """As many tokens as theirs, the class token always, every other equally often.

    Theirs takes the tokens away; ours makes them zero in place."""
    count, rows = 16, 4096
    tokens = np.broadcast_to(np.arange(1, count + 2, dtype=np.float32), (rows, 17))
    x = np.array(tokens[..., None])
    torch.manual_seed(0)
    layer = timm_layers.PatchDropout(rate, num_prefix_tokens=1)
    theirs = layer(torch.tensor(x)).numpy()[..., 0].astype(int)
    y = ours("patch", x, rate, prefix=1)[..., 0]
    assert ((y != 0).sum(1) == theirs.shape[1]).all()
    assert (theirs[:, 0] == 1).all() and (y[:, 0] == 1).all()
    for token in range(2, count + 2):
        pair = (y[:, token - 1] != 0, (theirs == token).any(1))
        assert same_proportion(*pair) > ALPHA, token


def torchvision_rate(rate, size, block):
    """What torchvision's seed probability really drops on a square map."""
    cover = covering_seeds(size, block, "paper")
    gamma = rate * size**2 / (block**2 * (size - block + 1) ** 2)
    return float((1 - (1 - gamma) ** np.outer(cover, cover)).mean())


@pytest.mark.parametrize(("size", "block"), [(14, 3), (14, 7), (9, 5)])
def test_dropblock_in_the_mode_of_the_paper(size, block):
    """The number of positions dropped in a map is distributed as torchvision's, at the
    rate that torchvision's formula really gives."""
    x = np.ones((4096, size, size, 16), np.float32)
    drop_block = torchvision_ops.drop_block2d
    theirs = channels_first(drop_block, x, 0.1, block, training=True)
    real = torchvision_rate(0.1, size, block)
    y = ours("dropblock", x, real, block_size=block, mode="paper")
    dropped = [(sample == 0).sum((1, 2)) for sample in (y, theirs)]
    assert same_distribution(*dropped) > ALPHA


# Map, block, nominal rate, and the rate that each of the others realises there.
DROPBLOCK = [
    (32, 7, 0.5, {"timm": 0.488, "torchvision": 0.374}),
    (14, 7, 0.1, {"timm": 0.192, "torchvision": 0.096}),
    (14, 7, 0.5, {"timm": 0.673, "torchvision": 0.363}),
    (8, 5, 0.3, {"timm": 0.572, "torchvision": 0.251}),
    (7, 7, 0.1, {"timm": 0.939, "torchvision": 0.100}),
]


@pytest.mark.parametrize(("size", "block", "rate", "realised"), DROPBLOCK)
def test_dropblock_realises_its_rate_and_the_others_theirs(size, block, rate, realised):
    """Ours within 5 standard errors of the nominal rate; theirs within 0.03 of the
    number in the table."""
    x = np.ones((256, size, size, 16), np.float32)
    share = (ours("dropblock", x, rate, block_size=block) == 0).mean((1, 2))
    assert abs(share.mean() - rate) < 5 * share.std() / np.sqrt(share.size)
    timm = timm_layers.drop.drop_block_2d
    found = {
        "timm": channels_first(timm, x, rate, block),
        "torchvision": channels_first(
            torchvision_ops.drop_block2d, x, rate, block, training=True
        ),
    }
    for name, theirs in found.items():
        assert abs((theirs == 0).mean() - realised[name]) < 0.03, name


def test_rate_1():
    """Zeros with zero gradients; equinox's gradient there is not a number, and Keras's
    Gaussian and alpha dropout divide by zero."""
    x = jnp.ones(8)
    theirs = jax.grad(lambda x: equinox.nn.Dropout(1.0)(x, key=KEY).sum())(x)
    assert jnp.isnan(theirs).all()
    for layer in (keras.layers.GaussianDropout, keras.layers.AlphaDropout):
        with pytest.raises(ZeroDivisionError):
            layer(1.0)(ONES, training=True)
    for name in ("bernoulli", "gaussian", "alpha"):
        draw = VARIANTS[name].draw
        gradient = jax.grad(lambda x, draw=draw: draw(KEY, x, jnp.float32(1)).sum())(x)
        assert (gradient == 0).all()


def test_an_attention_mask_belongs_to_a_head_and_an_example():
    """Flax's default shares one mask between all of them."""
    from flax import linen

    weights = np.ones((8, 4, 6, 6), np.float32)
    y = ours("attention", weights, 0.5)
    assert not (y == y[:1]).all() and not (y == y[:, :1]).all()
    query = jnp.ones((8, 6, 4, 2))
    mixed = linen.dot_product_attention_weights(
        query, query, dropout_rate=0.5, dropout_rng=KEY, deterministic=False
    )
    assert (mixed == mixed[:1, :1]).all()
