"""Memory that a step frees is there for the next one."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from training.runtime.devices import keep_freed_memory

# Prints the pages that were cleared for nine arrays, after twenty of the same size.
FAULTS = """
import resource, sys
import jax
import jax.numpy as jnp
import numpy as np
from models.convolution import compiler_options
from training.runtime.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def total(x):
    return jax.lax.optimization_barrier(x + 1).max()
total, x = jax.jit(total, compiler_options=compiler_options()), jnp.ones(32_000_000)
make = {"numpy": lambda: np.ones(8_000_000), "jax": lambda: float(total(x))}
for _ in range(20):
    make[sys.argv[2]]()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    make[sys.argv[2]]()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*what):
    command = [sys.executable, "-c", FAULTS, *what]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux'")
@pytest.mark.parametrize(("maker", "share"), [("numpy", 0.1), ("jax", 0.5)])
def test_freed_memory_is_kept_for_the_next_step(maker, share):
    assert faults("keep", maker) < share * faults("return", maker)


def test_glibc_is_told_by_the_numbers_of_its_header(monkeypatch):
    """M_MMAP_MAX is -4, M_TRIM_THRESHOLD -1 and M_TOP_PAD -2."""
    told, updates = [], []
    library = SimpleNamespace(mallopt=lambda *pair: told.append(pair))
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("jax.config.update", lambda *pair: updates.append(pair))
    keep_freed_memory()
    assert dict(told) == {-4: 0, -1: -1, -2: 2**28}
    assert updates == [("jax_cpu_enable_async_dispatch", False)]
