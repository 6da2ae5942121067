"""Variants beside independent implementations of them: one distribution where the other
is right, the other's number where it is not. All samples have fixed seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import VARIANTS
from dropout.variants.block_seeds import covering_seeds
from parity.peers import ALPHA, same_distribution, same_proportion
from parity.recorded import recorded
from parity.variant_inputs import (
    ALPHAS,
    BLOCKS,
    NOISE,
    ONES,
    PAPER,
    PATCHES,
    PATHS,
    RATES,
    TOKENS,
)  # fmt: skip

pytestmark = pytest.mark.slow

KEY = jax.random.key(71)


def theirs(case):
    return recorded("variants", case)


def ours(name, x, rate, **options):
    return np.asarray(VARIANTS[name](KEY, jnp.asarray(x), rate, **options))


def check_decisions_and_values(dropped, y, others, names):
    for name in names:
        assert same_proportion(dropped, others[f"{name} dropped"]) > ALPHA, name
        np.testing.assert_allclose(np.unique(y), others[f"{name} values"], rtol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_bernoulli(rate):
    y, others = ours("bernoulli", ONES, rate), theirs(f"bernoulli {rate}")
    check_decisions_and_values(y == 0, y, others, ("torch", "keras", "equinox"))


@pytest.mark.parametrize("rate", RATES)
def test_spatial(rate):
    """Whole channels, as many as theirs."""
    y, others = ours("spatial", ONES, rate), theirs(f"spatial {rate}")
    assert (y == y[:, :1, :1]).all()
    check_decisions_and_values(y[:, 0, 0] == 0, y, others, ("torch", "keras"))


@pytest.mark.parametrize(("name", "rate"), ALPHAS)
def test_alpha(name, rate):
    """The line that kept elements lie on, the value of the others, and how many."""
    y = ours(name.removesuffix("_dropout"), NOISE, rate)
    others = theirs(f"{name} {rate}")
    # Dropped elements are negative, and kept ones of x >= 2 are not.
    line = np.polyfit(NOISE[y > 0], y[y > 0], 1)
    a = -1.0507009873554805 * 1.6732632423543772
    for slope, shift in (line, others["line"]):
        assert abs(slope - ((1 - rate) * (1 + a * a * rate)) ** -0.5) < 1e-4
        assert abs(shift + slope * rate * a) < 1e-3
    np.testing.assert_allclose(y[y < 0].mean(), others["value"], rtol=1e-5)
    dropped = y[:, 0, 0] < 0 if name.startswith("feature") else y < 0
    assert same_proportion(dropped, others["dropped"]) > ALPHA


@pytest.mark.parametrize("rate", RATES)
def test_gaussian(rate):
    sample = theirs(f"gaussian {rate}")["keras"]
    assert same_distribution(ours("gaussian", ONES, rate), sample) > ALPHA


@pytest.mark.parametrize("rate", RATES)
def test_drop_path(rate):
    y, others = ours("drop_path", PATHS, rate), theirs(f"drop_path {rate}")
    check_decisions_and_values(y[:, 0, 0] == 0, y, others, ("timm", "torchvision"))


@pytest.mark.parametrize("rate", PATCHES)
def test_patch(rate):
    """As many tokens as theirs, the class token always, every other equally often.

    Theirs takes the tokens away; ours makes them zero in place."""
    y = ours("patch", TOKENS, rate, prefix=1)[..., 0]
    others = theirs(f"patch {rate}")
    assert ((y != 0).sum(1) == others["kept"]).all()
    assert others["rows"][0] == len(y) and (y[:, 0] == 1).all()
    for token, rows in enumerate(others["rows"][1:], 1):
        assert same_proportion(y[:, token] != 0, (rows, len(y))) > ALPHA, token


def torchvision_rate(rate, size, block):
    """What torchvision's seed probability really drops on a square map."""
    cover = covering_seeds(size, block, "paper")
    gamma = rate * size**2 / (block**2 * (size - block + 1) ** 2)
    return float((1 - (1 - gamma) ** np.outer(cover, cover)).mean())


@pytest.mark.parametrize(("size", "block"), PAPER)
def test_dropblock_in_the_mode_of_the_paper(size, block):
    """The number of positions dropped in a map is distributed as torchvision's, at the
    rate that torchvision's formula really gives."""
    x = np.ones((4096, size, size, 16), np.float32)
    real = torchvision_rate(0.1, size, block)
    y = ours("dropblock", x, real, block_size=block, mode="paper")
    maps = theirs(f"paper {(size, block)}")["maps"]
    sample = np.repeat(np.arange(len(maps)), maps)
    assert same_distribution((y == 0).sum((1, 2)), sample) > ALPHA


@pytest.mark.parametrize("case", BLOCKS)
def test_dropblock_realises_its_rate_and_the_others_theirs(case):
    """Ours within 5 standard errors of the nominal rate; theirs within 0.03 of the
    number in the table."""
    size, block, rate = case
    x = np.ones((256, size, size, 16), np.float32)
    share = (ours("dropblock", x, rate, block_size=block) == 0).mean((1, 2))
    assert abs(share.mean() - rate) < 5 * share.std() / np.sqrt(share.size)
    for name, found in theirs(f"blocks {case}").items():
        assert abs(found - BLOCKS[case][name]) < 0.03, name


def test_rate_1():
    """Zeros with zero gradients; equinox's gradient there is not a number, and Keras's
    Gaussian and alpha dropout divide by zero."""
    others = theirs("rate 1")
    assert np.isnan(others["equinox"]).all() and others["keras"].all()
    x = jnp.ones(8)
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
