"""What other libraries computed, as recorded; `tests/parity/record.py` records it anew.

A group is a file `<group>.npz` beside this one, with arrays by `<case>: <name>`.
"""

from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


@cache
def read(group):
    with np.load(HERE / f"{group}.npz") as arrays:
        return dict(arrays)


def recorded(group, case):
    """The recorded arrays of a case by name."""
    start = f"{case}: "
    found = {
        name.removeprefix(start): array
        for name, array in read(group).items()
        if name.startswith(start)
    }
    assert found, f"nothing is recorded of {case!r} in {group}"
    return found


def write(group, cases):
    """Records a dictionary of arrays for each case."""
    arrays = {f"{case}: {name}": a for case in cases for name, a in cases[case].items()}
    np.savez_compressed(HERE / f"{group}.npz", **arrays)
