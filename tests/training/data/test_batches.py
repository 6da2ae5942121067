"""Batches that are made while the one before them is in use."""

import itertools

import jax
import numpy as np
import pytest

from training.canonical import canonical
from training.data.batches import batches_from, one_ahead
from training.experiment import prepare


def test_batches_made_ahead_are_the_same(small):
    experiment = prepare(canonical(small))
    ahead = one_ahead(batches_from(experiment, 3))
    for batch, again in itertools.islice(zip(ahead, batches_from(experiment, 3)), 4):
        for one, other in zip(*map(jax.tree.leaves, (batch, again))):
            np.testing.assert_array_equal(one, other)


def test_what_fails_ahead_fails_where_it_is_asked_for():
    ahead = one_ahead(map(int, ["3", "x"]))
    assert next(ahead) == 3
    with pytest.raises(ValueError, match="'x'"):
        next(ahead)
