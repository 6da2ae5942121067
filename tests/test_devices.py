"""Memory that a step frees is there for the next one."""

import subprocess
import sys

import pytest

# Prints the pages that were cleared for nine arrays, after three of the same size.
FAULTS = """
import resource, sys
import jax
import jax.numpy as jnp
import numpy as np
from training.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
tall, wide = jnp.ones((4_000_000, 2)), jnp.ones((2, 8))
largest = jax.jit(lambda x, y: (x @ y).max())
make = {"numpy": lambda: np.ones(8_000_000), "jax": lambda: float(largest(tall, wide))}
for _ in range(3):
    make[sys.argv[2]]()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    make[sys.argv[2]]()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*what):
    command = [sys.executable, "-c", FAULTS, *what]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux'")
@pytest.mark.parametrize("maker", ["numpy", "jax"])
def test_freed_memory_is_kept_for_the_next_step(maker):
    assert faults("keep", maker) < 0.1 * faults("return", maker)
