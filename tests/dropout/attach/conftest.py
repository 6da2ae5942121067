"""Networks of others are not held to strict promotion."""

import jax
import jax.numpy as jnp
import pytest

from dropout import Moment


@pytest.fixture(autouse=True)
def promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def moment(key):
    """Builds the moment of a pass over the first examples."""

    def build(count, step=0, draw=0):
        return Moment(key, jnp.arange(count), epoch=0, step=step, draw=draw)

    return build
