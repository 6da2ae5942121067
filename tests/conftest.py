"""Strictness for all tests: types, shapes, promotion; and eight CPU devices."""

import os

# Before JAX starts its backend: tests see eight CPU devices and nothing else, unless
# the environment says so (`make test-gpu`).
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

from pathlib import Path

import jax
import jaxtyping
import pytest

# What one worker has compiled, no other compiles again.
CACHE = Path(__file__).parent.parent / ".pytest_cache" / "xla"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

HOOK = jaxtyping.install_import_hook(
    ["dropout", "models", "training", "evaluation", "studies"], "beartype.beartype"
)


@pytest.fixture
def key() -> jax.Array:
    """The fixed key from which a test derives all that it draws."""
    return jax.random.key(20140615)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The configuration of a small run."""
    # Imported here, so that the type-checking hook is in place before it.
    from small_run import configuration

    return configuration(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """A finished run: its workdir and its summary."""
    from small_run import train

    workdir = tmp_path_factory.mktemp("runs") / "finished"
    return workdir, train(small, workdir)
