"""Masks and bits as they are: numbers that a change of the key chain or of a variant
moves. They change only with an entry in the changelog."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import sampled
from variant_cases import FORMS, QUICK, Case, inputs

from dropout import VARIANTS, Moment, bind, parse, resolve
from dropout.bits import integers, kept, random_bits
from dropout.keys import named_key

KEY = jax.random.key(2014)

GOLDEN = {
    "bernoulli": "b7aab094",
    "gaussian": "68baefc7",
    "uniform": "3e9b0e05",
    "alpha": "c066584d",
    "feature_alpha": "e9ddf3ec",
    "max_dropout": "694f37ff",
    "spatial": "b18b3acf",
    "weighted_channel": "238f3571",
    "nested": "e3273287",
    "patch": "0ba438e1",
    "word": "24c1502c",
    "dropblock": "e83ca148",
    "disout": "f28e712b",
    "cutout": "185d16cb",
    "random_erasing": "ab8efbd3",
    "erase": "37722df9",
    "grid_mask": "31a1f50c",
    "hide_and_seek": "0879dfca",
    "adl": "23635241",
    "jumpout": "aa81709f",
    "masksembles": "4bae08a6",
    "max_pool": "66154135",
    "stochastic_pool": "dfa860f1",
    "mixed_pool": "f3d1eb57",
    "dropconnect": "b7aab094",
    "kernel_dropout": "b7aab094",
    "mixout": "b7aab094",
    "embedding": "2d1a9872",
    "targeted": "828d39a1",
    "drop_path": "a3251f62",
    "layerdrop": "c18c0811",
    "shakedrop": "d32de35a",
    "shake_shake": "0d4f6e95",
    "drop_activation": "d5b99ef4",
    "rrelu": "22d5376e",
    "locked": "b18b3acf",
    "recurrent": "b7aab094",
    "zoneout": "79ea3e75",
    "attention": "b7aab094",
    "dropkey": "feeefa00",
    "drophead": "aea3384c",
    "concrete": "b4ec889b",
    "spatial_concrete": "61c50646",
    "l0_gate": "1b77bcbc",
    "variational": "68baefc7",
    "sparse_variational": "68baefc7",
    "standout": "ea4b6764",
}


@pytest.mark.parametrize("name", sampled(VARIANTS, FORMS))
def test_a_variant_draws_what_it_drew(name):
    """A checksum of five rows, in steps of 1/8."""
    case = Case(name)
    draw = jax.jit(case.draw, compiler_options=QUICK)
    y = np.asarray(draw(KEY, jnp.float32(0.5), *inputs(case.kind, rows=5)))
    steps = np.round(np.clip(y.ravel(), -9, 9) * 8).astype("<i4")
    assert f"{zlib.crc32(steps.tobytes()):08x}" == GOLDEN[name]


def by_hand(*names_and_numbers):
    key = KEY
    for item in names_and_numbers:
        if isinstance(item, str):
            item = jnp.uint32(zlib.crc32(item.encode()))
        key = jax.random.fold_in(key, item)
    return key


@pytest.mark.parametrize(("unit", "count"), [("example", 3), ("batch", 7)])
def test_the_key_chain(unit, count):
    """Epoch or step, draw, site, example: the words of a row by JAX, the bits by the
    mixer written out for integers of any size."""
    rows = resolve(parse(f"fc:bernoulli(unit='{unit}'):0.5"), ("fc",))
    moment = Moment(KEY, jnp.array([5, 9]), epoch=3, step=7, draw=2)
    found = bind(rows, moment, "mc")("fc", jnp.ones((2, 50)))
    for row, example in enumerate((5, 9)):
        key = by_hand(count, 2, "fc", *(example,) * (unit == "example"))
        first, second = map(int, jax.random.bits(key, (2,), jnp.uint32))
        bits = [mixed((mixed(i ^ first) + second) % 2**32) for i in range(50)]
        expected = [2.0 * (word >= 2**31) for word in bits]
        np.testing.assert_array_equal(found[row], expected)


def mixed(word):
    word = (word ^ (word >> 16)) * 0x21F0AAAD % 2**32
    word = (word ^ (word >> 15)) * 0xD35A2D97 % 2**32
    return word ^ (word >> 15)


def test_bits_do_not_repeat_beyond_65536_elements():
    seeds = jnp.array([[3, 8]], jnp.uint32)
    words = np.asarray(random_bits(seeds, (1, 3, 2**17)))[0].ravel()
    assert len(np.unique(words)) == len(words)  # the mixer is a bijection
    for index in (0, 65_535, 65_536, 2**17 + 1, len(words) - 1):
        assert words[index] == mixed((mixed(index ^ 3) + 8) % 2**32)


def test_names_have_all_32_bits_of_their_hash():
    for name in ("fc", "conv1/kernel"):
        assert zlib.crc32(name.encode()) >= 2**16
        assert named_key(KEY, name) == by_hand(name)


def test_a_decision_at_its_bound():
    """What equals the rate is kept: 2^30 steps, of which the rate drops the lowest."""
    words = jnp.array([0, 3, 4, 2**30 - 1, 2**30, 2**32 - 1], jnp.uint32)
    for rate, expected in (
        (0.0, [1, 1, 1, 1, 1, 1]),
        (2.0**-30, [0, 0, 1, 1, 1, 1]),
        (0.25, [0, 0, 0, 0, 1, 1]),
        (1.0, [0, 0, 0, 0, 0, 0]),
    ):
        np.testing.assert_array_equal(kept(words, jnp.float32(rate)), expected)


def test_integers_are_the_exact_product():
    words = np.random.default_rng(0).integers(0, 2**32, 4096, dtype=np.uint32)
    for bound in (3, 1000, 65_535):
        # The last word below a bound is wrong where the carry of the low half is lost.
        edges = [(k * 2**32 + bound - 1) // bound for k in range(1, min(bound, 300))]
        drawn = np.concatenate([words, np.array(edges, np.uint32)])
        expected = (drawn.astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)
        np.testing.assert_array_equal(integers(jnp.asarray(drawn), bound), expected)
