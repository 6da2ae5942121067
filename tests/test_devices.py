"""Memory that a step frees is there for the next one."""

import subprocess
import sys

import pytest

# Prints the pages that were cleared for nine arrays, each as large as the first.
FAULTS = """
import resource, sys
import numpy as np
from training.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what):
    command = [sys.executable, "-c", FAULTS, what]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux'")
def test_freed_memory_is_kept_for_the_next_step():
    assert faults("keep") < 0.1 * faults("return")
