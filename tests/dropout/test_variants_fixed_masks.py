"""Masksembles and the unit `run`: masks that no split, epoch or step changes."""

from functools import cache, partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK, draw

from dropout import Moment, bind, parse, resolve

KEY, RUN = jax.random.key(38), jax.random.key(39)
CHANNELS, SETS = 240, 256


def all_masks(rate, channels, sets=SETS):
    """Sets of the four masks of a key, as (sets, 4, channels)."""
    keys = jnp.repeat(jax.random.split(KEY, sets), 4)
    x = -jnp.ones((4 * sets, channels))
    y = np.asarray(draw("masksembles", keys, x, rate, jnp.tile(jnp.arange(4), sets)))
    assert set(np.unique(y)) <= {0.0, -1.0}
    return (y != 0).reshape(sets, 4, channels)


def test_masks_of_a_set_overlap_as_published():
    """Scale 2 with four masks: 240 = M 2 (1 - 1/2^4) gives M = 128, and a pair of
    masks shares M / 2 = 64 channels on average (|z| < 5), a third of their union; the
    first i masks together keep 256 (1 - 1/2^i) channels, each channel equally often."""
    masks = all_masks(1 - 128 / CHANNELS, CHANNELS)
    assert (masks.sum(-1) == 128).all()
    for count, together in ((1, 128), (2, 192), (3, 224), (4, 240)):
        assert (masks[:, :count].any(1).sum(-1) == together).all()
    for one, other in combinations(range(4), 2):
        shared = (masks[:, one] & masks[:, other]).sum(-1)
        error = max(shared.std() / np.sqrt(SETS), 1e-9)
        assert abs(shared.mean() - 64) < 5 * error
    share = 128 / CHANNELS
    error = np.sqrt(share * (1 - share) / SETS)
    assert np.abs(masks.mean(0) - share).max() < 5 * error


@pytest.mark.parametrize(("rate", "kept"), [(0.75, 60), (0.9, 24), (1.0, 1)])
def test_masks_of_high_rates_do_not_overlap(rate, kept):
    masks = all_masks(rate, CHANNELS, 2)
    assert (masks.sum(-1) == kept).all() and (masks.sum(1) <= 1).all()


def masks_of(plan="fc:masksembles:0.5", mode="train", run=RUN, **moment):
    """What a site keeps of examples 10 to 17, of 16 channels."""
    moment = {"key": KEY, "epoch": 0, "step": 0, "draw": 0, **moment}
    passed = Moment(examples=jnp.arange(10, 18), run=run, **moment)
    return np.asarray(compiled_drop(plan, mode)(passed, jnp.ones((8, 16)))) != 0


@cache
def compiled_drop(plan, mode):
    rows = resolve(parse(plan), ("fc",))

    @partial(jax.jit, compiler_options=QUICK)
    def dropped(moment, x):
        return bind(rows, moment, mode)("fc", x)

    return dropped


def test_an_example_meets_the_masks_of_its_run_in_turn():
    first = masks_of()
    np.testing.assert_array_equal(first[:4], first[4:])
    assert len(np.unique(first, axis=0)) == 4
    np.testing.assert_array_equal(masks_of(key=RUN, step=9), first)
    np.testing.assert_array_equal(masks_of(epoch=1)[:-1], first[1:])
    np.testing.assert_array_equal(masks_of(draw=1)[:-1], first[1:])
    assert (masks_of(run=KEY) != first).any()


@pytest.mark.parametrize(
    "mode", ["mc", pytest.param("shared_mc", marks=pytest.mark.slow)]
)
def test_as_many_draws_as_masks_are_all_masks(mode):
    """At test a draw is one network, and four draws have no sampling error."""
    first, second = (
        np.stack([masks_of(mode=mode, draw=draw) for draw in range(start, start + 4)])
        for start in (1, 6)
    )
    assert (first == first[:, :1]).all()
    np.testing.assert_array_equal(first.sum(0), second.sum(0))
    assert len(np.unique(first[:, 0], axis=0)) == 4
    np.testing.assert_array_equal(np.unique(first[:, 0], axis=0).sum(1), 8)


def test_another_variant_has_one_mask_for_a_run():
    plan = "fc:bernoulli(unit='run'):0.5"
    first = masks_of(plan)
    assert (first == first[:1]).all() and 0 < first.mean() < 1
    for moment in ({"key": RUN}, {"epoch": 3, "step": 30}, {"mode": "mc", "draw": 2}):
        np.testing.assert_array_equal(masks_of(plan, **moment), first)
    assert (masks_of(plan, run=KEY) != first).any()


def test_a_moment_without_the_key_of_the_run_is_an_error():
    with pytest.raises(ValueError, match=r"run=None.*key of the run.*'fc'"):
        masks_of(run=None)
    with pytest.raises(ValueError, match="typed key"):
        masks_of(run=jnp.zeros(2, jnp.uint32))
