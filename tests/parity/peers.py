"""Other libraries, and two-sample tests."""

import os
import warnings

import numpy as np
import pytest
from scipy import stats

os.environ["KERAS_BACKEND"] = "jax"
ALPHA = 1e-4  # Each test fails by chance once in so many keys.


def peer(name):
    """An independent implementation, or a skipped file where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name}: install the extra `parity`")


def same_proportion(ours, theirs):
    """The p-value of our decisions and (dropped, all) of theirs having one rate."""
    dropped, count = map(int, theirs)
    table = [[np.sum(ours), np.size(ours) - np.sum(ours)], [dropped, count - dropped]]
    return stats.fisher_exact(table).pvalue


def same_distribution(ours, theirs):
    """Kolmogorov-Smirnov's p-value of two samples having one distribution."""
    return stats.ks_2samp(np.ravel(ours), np.ravel(theirs)).pvalue
