"""The counter hash against what uniform, independent bits would do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dropout.bits import keep_mask, random_bits, row_seeds, uniform

# Each test is at fixed keys; a correct generator fails one in a million such tests.
P_VALUE = 1e-6
SHAPE = (64, 32, 32, 8)


@pytest.fixture(scope="module")
def words():
    seeds = row_seeds(jax.random.key(1), SHAPE[0])
    return np.asarray(random_bits(seeds, SHAPE))


def z_score(count, trials, probability):
    deviation = np.sqrt(trials * probability * (1 - probability))
    return abs(count - trials * probability) / deviation


HIGHEST_Z = stats.norm.isf(P_VALUE / 2)


def test_every_bit_is_set_half_of_the_time(words):
    counts = [(words >> bit & 1).sum() for bit in range(32)]
    assert max(z_score(count, words.size, 0.5) for count in counts) < HIGHEST_Z


def test_bytes_are_uniform(words):
    for shift in (0, 8, 16, 24):
        counts = np.bincount((words >> shift & 255).ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > P_VALUE


@pytest.mark.parametrize("lag", [1, 2, 4, 8, 16, 32, 256, 8192])
def test_neighbours_are_uncorrelated(words, lag):
    bits = (words.ravel() >> 31).astype(np.int64)
    agreements = (bits[lag:] == bits[:-lag]).sum()
    assert z_score(agreements, bits.size - lag, 0.5) < HIGHEST_Z


def test_pairs_of_neighbours_fill_the_plane(words):
    high = (words.ravel() >> 28).astype(np.int64)
    pairs = np.bincount(high[::2] * 16 + high[1::2], minlength=256)
    assert stats.chisquare(pairs).pvalue > P_VALUE


def test_runs_have_geometric_lengths(words):
    bits = (words.ravel() >> 30 & 1).astype(np.int8)
    lengths = np.diff(np.flatnonzero(np.diff(bits)))
    counts = np.bincount(np.minimum(lengths, 15), minlength=16)[1:]
    expected = lengths.size * np.append(0.5 ** np.arange(1, 15), 0.5**14)
    assert stats.chisquare(counts, expected).pvalue > P_VALUE


def test_rows_and_keys_are_independent(words):
    bits = words.reshape(SHAPE[0], -1) >> 31
    agreements = (bits[1:] == bits[:-1]).sum()
    assert z_score(agreements, bits[1:].size, 0.5) < HIGHEST_Z
    other = random_bits(row_seeds(jax.random.key(2), SHAPE[0]), SHAPE)
    agreements = (np.asarray(other).reshape(bits.shape) >> 31 == bits).sum()
    assert z_score(agreements, bits.size, 0.5) < HIGHEST_Z


def test_each_seed_bit_flips_half_of_the_output():
    seeds = jnp.asarray([[0x12345678, 0x9ABCDEF0]], jnp.uint32)
    base = np.asarray(random_bits(seeds, (1, 4096)))
    for word in (0, 1):
        for bit in range(32):
            flip = np.zeros((1, 2), np.uint32)
            flip[0, word] = 1 << bit
            flipped = np.asarray(random_bits(seeds ^ flip, (1, 4096)))
            share = np.unpackbits((base ^ flipped).view(np.uint8)).mean()
            # A 32-bit mixer of two rounds: its worst bit is allowed one per cent.
            assert abs(share - 0.5) < 0.01, (word, bit, share)


def test_each_index_bit_flips_half_of_the_output():
    seeds = row_seeds(jax.random.key(5), 4)
    base = np.asarray(random_bits(seeds, (4, 2**16)))
    for bit in range(16):
        flipped = base[:, np.arange(2**16) ^ (1 << bit)]
        share = np.unpackbits((base ^ flipped).view(np.uint8)).mean()
        assert abs(share - 0.5) < 0.01, (bit, share)


def test_uniforms_are_uniform_and_below_one(words):
    drawn = np.asarray(uniform(row_seeds(jax.random.key(7), 8), (8, 4096)))
    assert drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > P_VALUE


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_decisions_have_the_rate_asked_for(rate):
    kept = keep_mask(row_seeds(jax.random.key(3), 64), jnp.float32(rate), SHAPE)
    dropped = int((~np.asarray(kept)).sum())
    assert z_score(dropped, kept.size, rate) < HIGHEST_Z


def test_decisions_are_those_of_the_uniforms():
    seeds, shape = row_seeds(jax.random.key(4), 8), (8, 4096)
    drawn = uniform(seeds, shape)
    for rate in (0.0, 2.0**-24, 0.25, 0.3, 1 - 2.0**-24, 1.0):
        kept = keep_mask(seeds, jnp.float32(rate), shape)
        np.testing.assert_array_equal(kept, drawn >= np.float32(rate))
