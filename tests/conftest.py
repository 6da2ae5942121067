"""Strictness for all tests: types, shapes, promotion; and four CPU devices."""

import os

# Before JAX starts its backend: tests see four CPU devices and nothing else.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

HOOK = jaxtyping.install_import_hook(
    ["dropout", "models", "training"], "beartype.beartype"
)


@pytest.fixture
def key() -> jax.Array:
    """The fixed key from which a test derives all that it draws."""
    return jax.random.key(20140615)
