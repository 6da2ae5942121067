"""Nested dropout: how often each channel is kept, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

from dropout import VARIANTS

KEY = jax.random.key(37)
ROWS = 65536


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [("all", (1, 0.8, 0.6, 0.4, 0.2)), ("powers", (1, 0.75, 0.5, 0.5, 0.25))],
)
def test_nested_keeps_the_first_channels(sizes, kept):
    """Of 5 channels k is 1 to 5, or 1, 2, 4 and 5; a channel is kept with the chance
    that k reaches it, or that nothing is dropped; |z| < 5."""
    rate, x = 0.7, -jnp.ones((ROWS, 3, 5))
    y = np.asarray(draw("nested", KEY, x, rate, sizes=sizes))
    assert (y == y[:, :1]).all() and set(np.unique(y)) == {-1.0, 0.0}
    keep = y[:, 0] == -1
    assert (keep[:, :-1] >= keep[:, 1:]).all()
    expected = 1 - rate * (1 - np.asarray(kept))
    error = np.sqrt(expected * (1 - expected) / ROWS) + 1e-12
    assert (np.abs(keep.mean(0) - expected) < 5 * error).all()


def test_nested_gives_the_first_channels_at_test():
    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    at_test = VARIANTS["nested"].evaluate
    np.testing.assert_array_equal(at_test(x, 0.5), x)
    np.testing.assert_array_equal(at_test(x, 0.5, first=1), [[1, 0, 0], [4, 0, 0]])
    with pytest.raises(ValueError, match="first=4"):
        at_test(x, 0.5, first=4)
