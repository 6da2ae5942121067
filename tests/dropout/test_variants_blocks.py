"""DropBlock's geometry, against the nominal rate, morphology and enumeration."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

from dropout.variants.block_seeds import covering_seeds, seed_rate

KEY = jax.random.key(33)
GEOMETRIES = [
    (32, 32, 7),
    (14, 14, 7),
    (8, 8, 5),
    (8, 8, 7),
    (7, 7, 7),
    (4, 4, 7),
    (16, 8, 5),
    (5, 9, 4),
]
RATES = (0.05, 0.1, 0.3, 0.5, 0.9)
ROWS = 2048


def dropblock(x, rate, **options):
    return draw("dropblock", KEY, x, rate, **options)


@pytest.mark.parametrize("mode", ["extended", "paper"])
@pytest.mark.parametrize(("height", "width", "size"), GEOMETRIES)
def test_realised_rate(height, width, size, mode):
    """At every geometry the nominal rate is realised, every row and column is dropped
    equally often ("extended") and E[y] is x at every position; all within 5.3 standard
    errors of 2048 maps (rates 5, 8 geometries, 32^2 positions: once in 500 keys)."""
    x = jnp.ones((ROWS, height, width, 1))
    run = partial(dropblock, x, block_size=size, mode=mode)
    for rate in RATES:
        y = np.asarray(run(rate))[..., 0]
        assert np.isfinite(y).all()
        zero = y == 0
        views = [(zero.mean((1, 2)), rate)]
        if mode == "extended":
            views += [(zero.mean(2), rate), (zero.mean(1), rate)]
        if mode == "extended" or rate < 0.9:  # in the middle hardly anything is kept
            views += [(y, 1)]
        for sample, expected in views:
            error = sample.std(0) / np.sqrt(ROWS) + 1e-9
            assert (abs(sample.mean(0) - expected) < 5.3 * error).all(), rate


def test_paper_mode_drops_the_middle_more_often():
    """P(keep) is (1 - gamma)^n at a position that n seeds cover: within 5 standard
    errors everywhere, gamma by bisection in double precision."""
    height, width, size, rate = 9, 6, 3, 0.3
    rows, columns = (
        [sum(s <= i < s + size for s in range(n - size + 1)) for i in range(n)]
        for n in (height, width)
    )
    cover = np.outer(rows, columns)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = (1 - (1 - middle) ** cover).mean() >= rate
        low, high = (low, middle) if enough else (middle, high)
    x = jnp.ones((ROWS, height, width, 4))
    keep = (dropblock(x, rate, block_size=size, mode="paper") != 0).mean((0, 3))
    expected = (1 - high) ** cover
    error = np.sqrt(expected * (1 - expected) / x.size * cover.size)
    assert (abs(keep - expected) < 5 * error).all()
    assert keep[4, 2] < keep[0, 0]


def test_paper_mode_against_enumeration():
    """All 2^9 placements of seeds on a 4x4 map with blocks of 2: the chance of every
    mask, by a chi-square test over the 512 (p > 0.001)."""
    rate, rows = 0.3, 65536
    y = dropblock(jnp.ones((rows, 4, 4, 1)), rate, block_size=2, mode="paper")
    gamma = float(seed_rate(jnp.float32(rate), _cover(4, 4, 2, "paper")))
    chances = {}
    for seeds in product((0, 1), repeat=9):
        mask = np.zeros((4, 4), bool)
        for index in np.flatnonzero(seeds):
            mask[index // 3 : index // 3 + 2, index % 3 : index % 3 + 2] = True
        chance = gamma ** sum(seeds) * (1 - gamma) ** (9 - sum(seeds))
        code = _codes(mask[None])[0]
        chances[code] = chances.get(code, 0) + chance
    codes, counts = np.unique(_codes(np.asarray(y)[..., 0] == 0), return_counts=True)
    assert set(codes) <= set(chances)
    found = dict(zip(codes, counts, strict=True))
    expected = {code: rows * chance for code, chance in chances.items()}
    common = [code for code in expected if expected[code] >= 5]
    seen = np.asarray([found.get(code, 0) for code in common])
    wanted = np.asarray([expected[code] for code in common])
    z = ((seen - wanted) ** 2 / wanted).sum()
    assert z < len(common) + 4 * np.sqrt(2 * len(common))


def _codes(masks):
    return masks.reshape(len(masks), -1) @ (1 << np.arange(16))


def _cover(height, width, size, mode):
    rows, columns = (covering_seeds(n, size, mode) for n in (height, width))
    return rows[:, None] * columns[None]


@pytest.mark.parametrize("mode", ["extended", "paper"])
def test_dropped_positions_are_unions_of_blocks(mode):
    """Every dropped position lies in a 3x3 block of dropped ones; in mode "extended"
    the block may reach over the border."""
    size = 3
    y = dropblock(jnp.ones((64, 10, 8, 2)), 0.2, block_size=size, mode=mode)
    zero = np.asarray(y == 0)
    border = size - 1 if mode == "extended" else 0
    wide = np.pad(
        zero, ((0, 0), (border,) * 2, (border,) * 2, (0, 0)), constant_values=1
    )
    whole = np.ones((64, wide.shape[1] - size + 1, wide.shape[2] - size + 1, 2), bool)
    for i, j in product(range(size), repeat=2):
        whole &= wide[:, i : i + whole.shape[1], j : j + whole.shape[2]]
    covered = np.zeros_like(wide)
    for i, j in product(range(size), repeat=2):
        covered[:, i : i + whole.shape[1], j : j + whole.shape[2]] |= whole
    inner = slice(border, -border or None)
    np.testing.assert_array_equal(covered[:, inner, inner], zero)
    assert 0 < zero.mean() < 1


@pytest.mark.slow
def test_block_size_1_is_bernoulli_and_a_block_as_large_as_the_map_spatial():
    x = jax.random.normal(KEY, (16, 6, 5, 4))
    for rate in (0.1, 0.37, 0.9):
        for name, size in (("bernoulli", 1), ("spatial", 6), ("spatial", 40)):
            y = dropblock(x, rate, block_size=size)
            np.testing.assert_array_equal(y, draw(name, KEY, x, rate))


def test_sequences_and_shared_channels():
    y = dropblock(jnp.ones((ROWS, 12, 3)), 0.3, block_size=4)
    share = np.asarray(y == 0).mean((1, 2))
    assert abs(share.mean() - 0.3) < 5 * share.std() / np.sqrt(ROWS)
    y = dropblock(jnp.ones((64, 6, 5, 4)), 0.3, block_size=3, channels="shared")
    assert (y == y[..., :1]).all()
    y = dropblock(jnp.ones((64, 6, 5, 4)), 0.3, block_size=3)
    assert not (y == y[..., :1]).all()


def test_shapes_and_sizes_that_make_no_sense_are_errors():
    with pytest.raises(ValueError, match="with 3 to 4 axes"):
        dropblock(jnp.ones((2, 3)), 0.1)
    with pytest.raises(ValueError, match="block_size=0"):
        dropblock(jnp.ones((2, 4, 4, 1)), 0.1, block_size=0)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_seed_rate_is_the_root(rate, size):
    """It is 1 - (1 - rate)^(1 / k^2), to 2^-22."""
    gamma = seed_rate(jnp.float32(rate), _cover(20, 20, size, "extended"))
    assert abs(gamma - (1 - (1 - rate) ** (1 / size**2))) < 2e-7 + 1e-5 * (rate > 0.99)


def test_seed_rate_is_the_smallest_step_that_is_enough():
    """With one seed a position it is the rate, rounded up to a multiple of 2^-30; also
    where that ends in a digit 31 of the search."""
    rates = np.random.default_rng(0).uniform(size=4096).astype(np.float32)
    rates = np.concatenate([rates, np.float32([0x12FF34, 0xFFFFFF, 0x1F, 1]) / 2**30])
    find = jax.jit(jax.vmap(lambda rate: seed_rate(rate, np.ones((1, 1), np.int32))))
    expected = np.ceil(np.float64(rates) * 2**30) / 2**30
    np.testing.assert_array_equal(find(rates), expected)


@pytest.mark.slow
def test_disout_replaces_what_dropblock_drops_by_noise_of_the_same_spread():
    """Its deviation is alpha std(x) to 5 standard errors; alpha 0 is dropblock."""
    x = 3 + 2 * jax.random.normal(KEY, (256, 8, 8, 4))
    disout = partial(draw, "disout")
    plain = dropblock(x, 0.3, block_size=3)
    np.testing.assert_allclose(disout(KEY, x, 0.3, block_size=3, alpha=0.0), plain)
    y = disout(KEY, x, 0.3, block_size=3, alpha=5.0)
    hit = np.asarray(plain == 0)
    np.testing.assert_array_equal(np.asarray(y)[~hit], np.asarray(plain)[~hit])
    ratio = np.asarray(y / (5 * x.std((1, 2, 3), keepdims=True)))[hit]
    assert abs(ratio.std() - 1) < 5 / np.sqrt(2 * len(ratio))
    assert abs(ratio.mean()) < 5 / np.sqrt(len(ratio))


@pytest.mark.parametrize("mode", ["extended", "paper"])
@pytest.mark.parametrize(("side", "rate"), [(64, 1e-3), (1024, 1e-4), (1024, 1e-6)])
def test_low_rates_on_large_maps_are_met(side, rate, mode):
    """The mean of 1 - (1 - gamma)^n in float64 is the rate, to a step of gamma."""
    cover = _cover(side, side, 7, mode)
    gamma = float(seed_rate(jnp.float32(rate), cover))
    realised = -np.expm1(cover * np.log1p(-gamma)).mean()
    assert abs(realised - rate) < 2e-3 * rate + 49 * 2.0**-30
