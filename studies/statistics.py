"""Paired comparisons: intervals, tests, and corrections for several tests."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
CHUNK = 250  # Resamples per chunk, which bounds the memory.


class Estimate(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


class Test(NamedTuple):
    """A difference with its 95 % interval and its two-sided p-value."""

    difference: Estimate
    p: float


def interval(values: Float[np.ndarray, " n"]) -> Estimate:
    """Return the mean with its t-interval, which is unbounded for a single value."""
    return paired_t(values).difference


def paired_t(differences: Float[np.ndarray, " n"]) -> Test:
    """Return Student's paired t-test of the mean difference against 0.

    If all differences are zero, the difference is 0 and p = 1. If they all equal
    another value, which few seeds and a small test set can cause, the true spread need
    not be 0. Then p is from the sign test, 2^(1 - n), and the interval is the one that
    corresponds to this p (for one value it is unbounded).
    """
    mean = float(differences.mean())
    if not differences.any():
        return Test(Estimate(0.0, 0.0, 0.0), 1.0)
    if np.ptp(differences) <= 1e-9 * abs(mean):
        return _equal_differences(mean, len(differences))
    found: Any = stats.ttest_1samp(differences, 0.0)
    low, high = found.confidence_interval(CONFIDENCE)
    return Test(Estimate(mean, float(low), float(high)), float(found.pvalue))


def _equal_differences(mean: float, count: int) -> Test:
    if count == 1:
        return Test(Estimate(mean, -np.inf, np.inf), 1.0)
    p = 2.0 ** (1 - count)
    error = abs(mean) / stats.t.isf(p / 2, count - 1)
    half = float(stats.t.isf((1 - CONFIDENCE) / 2, count - 1) * error)
    return Test(Estimate(mean, mean - half, mean + half), p)


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """Return the exact p-value of McNemar's test for two networks.

    The arguments say whether each network classifies each example right.
    """
    gained = int((second & ~first).sum())
    changed = int((second != first).sum())
    return float(stats.binomtest(gained, changed).pvalue) if changed else 1.0


def crossed_bootstrap(
    first: Bool[np.ndarray, "seeds n"], second: Bool[np.ndarray, "seeds n"]
) -> Test:
    """Return the difference in accuracy, tested over both seeds and test examples.

    Seeds and examples are resampled independently (the pigeonhole bootstrap of Owen,
    2007), since all seeds are tested on the same examples. The ends of the interval are
    percentiles of the resampled differences, widened by sqrt(s / (s - 1)) for s seeds.
    """
    gain = second.astype(np.float32) - first.astype(np.float32)
    mean = float(gain.mean(dtype=np.float64))
    if not gain.any():
        return Test(Estimate(0.0, 0.0, 0.0), 1.0)
    resampled = mean + _deviations(gain, mean)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    below = 1 + (resampled <= 0).sum()
    above = 1 + (resampled >= 0).sum()
    p = min(1.0, 2 * min(below, above) / (1 + len(resampled)))
    return Test(Estimate(mean, float(low), float(high)), float(p))


def _deviations(gain: Float[np.ndarray, "seeds n"], mean: float) -> np.ndarray:
    random = np.random.default_rng(0)
    seeds, examples = gain.shape
    means = []
    for _ in range(0, RESAMPLES, CHUNK):
        rows = random.multinomial(seeds, [1 / seeds] * seeds, CHUNK) / seeds
        columns = random.multinomial(examples, [1 / examples] * examples, CHUNK)
        means.append(((rows @ gain) * columns).sum(1) / examples)
    return (np.concatenate(means) - mean) * np.sqrt(seeds / max(seeds - 1, 1))


def holm(p: list[float]) -> list[float]:
    """Return p-values after Holm's correction, which bounds the family-wise error."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    scaled = np.minimum(1, values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(scaled)
    return corrected.tolist()
