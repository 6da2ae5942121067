"""Weights and images that are functions of their names, everywhere the same.

`RandomState` keeps its stream in every version of NumPy, which `default_rng` does not.
"""

import zlib

import numpy as np


def normal(name, shape):
    """Float32 values, so that float64 computes with the same ones."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return random.standard_normal(shape).astype(np.float32)


def parameter(path, shape):
    """A value of its usual size for each kind of parameter and statistic."""
    values, kind = normal(path, shape), path.rsplit("/")[-1]
    if kind == "kernel":
        return values * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    if kind in ("scale", "var"):
        return 0.5 + np.abs(values)
    return values * np.float32(0.3)


def projected(arrays):
    """The product of each array with random values, in order of the paths."""
    return np.array([product(path, arrays[path]) for path in sorted(arrays)])


def product(path, array):
    return np.vdot(np.float64(array), normal(f"probe {path}", array.shape))
