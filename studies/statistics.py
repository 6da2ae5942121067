"""Paired comparisons: intervals, tests, and corrections for several tests."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.optimize import brentq

CONFIDENCE = 0.95
POWER = 0.8
SMALLEST_TAIL = 1e-15
MOST_SEEDS = 4096  # The most seeds that a study takes.


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


def crossed_interval(gain: Float[np.ndarray, "seeds n"]) -> Estimate:
    """Return the mean gain with its interval over both seeds and test examples.

    All seeds are tested on the same examples, so gains follow the crossed model gain
    = mean + seed + example + rest, with three random effects. The half-width of the
    interval is sqrt(t_seeds^2 v_seeds + t_examples^2 v_examples). Here v_seeds is the
    variance of the mean over seeds, as in the paired t-test, v_examples is what the
    spread of the examples adds beyond the rest (from the mean squares of a two-way
    analysis of variance), and each t is Student's quantile with one degree of freedom
    less than there are seeds or examples. The interval is never narrower than that of
    the paired t-test over seeds. `scripts/coverage.py` shows how often it
    contains the true difference.

    Raises:
        ValueError: there are fewer than two seeds or two examples.
    """
    mean, half = float(gain.mean()), _half_width(gain)
    width = half((1 - CONFIDENCE) / 2) if gain.any() else 0.0
    return Estimate(mean, mean - width, mean + width)


def crossed_t(
    first: Bool[np.ndarray, "seeds n"], second: Bool[np.ndarray, "seeds n"]
) -> Test:
    """Return the difference in accuracy, tested over both seeds and test examples.

    The p-value is one less the confidence at which `crossed_interval` ends at 0. Two
    arms that are right on the same examples differ by 0, with p = 1.

    Raises:
        ValueError: there are fewer than two seeds or two examples.
    """
    gain = second.astype(np.float64) - first
    found = crossed_interval(gain)
    distance, half = abs(found.mean), _half_width(gain)
    if distance == 0:
        return Test(found, 1.0)
    if half(SMALLEST_TAIL) <= distance:
        return Test(found, 2 * SMALLEST_TAIL)
    tail: Any = brentq(lambda tail: half(tail) - distance, SMALLEST_TAIL, 0.5)
    return Test(found, 2 * tail)


def _half_width(gain: Float[np.ndarray, "seeds n"]) -> Callable[[float], float]:
    """Return the half-width of the crossed interval as a function of its upper tail."""
    seeds, examples = gain.shape
    if min(seeds, examples) < 2:
        raise ValueError(f"{seeds} seeds, {examples} examples: expected 2 of each.")
    errors = _standard_error(gain.mean(1)), np.sqrt(_variance_of_examples(gain))
    freedom = np.array([seeds - 1, examples - 1])

    def half(tail: float) -> float:
        return float(np.linalg.norm(stats.t.isf(tail, freedom) * errors))

    return half


def _standard_error(differences: Float[np.ndarray, " n"]) -> float:
    """Return the standard error of a mean; of equal differences, the sign test's."""
    mean, count = differences.mean(), len(differences)
    if np.ptp(differences) <= 1e-9 * abs(mean):
        return float(abs(mean) / stats.t.isf(0.5**count, count - 1))
    return float(differences.std(ddof=1) / np.sqrt(count))


def _variance_of_examples(gain: Float[np.ndarray, "seeds n"]) -> float:
    """Return the part of the mean's variance that is due to the examples alone."""
    seeds, examples = gain.shape
    of_seeds, of_examples = gain.mean(1, keepdims=True), gain.mean(0)
    rest = gain - of_seeds - of_examples + gain.mean()
    residual = np.square(rest).sum() / ((seeds - 1) * (examples - 1))
    return max(0.0, of_examples.var(ddof=1) - residual / seeds) / examples


def equivalence(differences: Float[np.ndarray, " n"], margin: float) -> float:
    """Return the p-value of the claim that the mean lies within -margin..margin.

    It is that of two one-sided paired t-tests (Schuirmann 1987). If it is below 0.05,
    the 90 % interval lies within the margin. Differences that all are equal, and
    within the margin, have the p-value of the sign test, 2^-n.

    Raises:
        ValueError: the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"--margin={margin}: expected a positive number.")
    mean, count = differences.mean(), len(differences)
    if np.ptp(differences) <= 1e-9 * max(abs(mean), margin):
        return 0.5**count if abs(mean) < margin else 1.0
    error = differences.std(ddof=1) / np.sqrt(count)
    return float(stats.t.sf((margin - abs(mean)) / error, count - 1))


def seeds_needed(deviation: float, difference: float, level: float = 0.05) -> int:
    """Return how many pairs of seeds find a difference with 80 % probability.

    Args:
        deviation: the standard deviation of paired differences.
        difference: the true difference, above 0, in the same unit.
        level: the p-value below which a two-sided paired t-test finds it.
    """
    effect = difference / deviation if deviation else np.inf
    counts = np.arange(2, MOST_SEEDS + 1)
    bound = stats.t.isf(level / 2, counts - 1)
    shift = np.minimum(effect, 1e3) * np.sqrt(counts)
    enough = stats.nct.sf(bound, counts - 1, shift) >= POWER
    return int(counts[enough.argmax()]) if enough.any() else MOST_SEEDS


def holm(p: list[float]) -> list[float]:
    """Return p-values after Holm's correction, which bounds the family-wise error."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    scaled = np.minimum(1, values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(scaled)
    return corrected.tolist()
