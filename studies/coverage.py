"""Simulations of studies: how often intervals contain the truth, and tests err.

Networks are simulated, not trained: each example is right if its ease, plus what the
seed, the pair of seed and example and the arm's view of the example add, is high
enough. Both arms have the same distribution, so the true difference is 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from studies.statistics import crossed_interval, equivalence, interval, paired_t

SEEDS = (2, 3, 5, 8, 16)
EXAMPLES = 150
THRESHOLD = -1.5  # About 9 % of the examples are wrong.
NOISE = 0.3
# How much the arms' difference varies with the seed and with the example.
SPREADS = {"seeds": (0.3, 0.0), "examples": (0.0, 0.8), "both": (0.2, 0.5)}
LEVEL = 0.05
LOOKS = range(3, 9)

Arms = Bool[np.ndarray, "two seeds examples"]


class Coverage(NamedTuple):
    """The share of simulated studies whose interval contains the true difference.

    Attributes:
        varies: a name in `SPREADS`.
        seeds: the number of seeds of each study.
        paired: the share of Student's paired t, over seeds alone.
        crossed: the share of the interval over seeds and examples.
    """

    varies: str
    seeds: int
    paired: float
    crossed: float


def simulate_study(random: np.random.Generator, seeds: int, varies: str) -> Arms:
    """Return which examples the networks of two equal arms classify right."""
    by_seed, by_example = SPREADS[varies]
    shape = (2, seeds, EXAMPLES)
    score = random.normal(0, 1, EXAMPLES) + random.normal(0, NOISE, shape)
    score += random.normal(0, by_seed, (2, seeds, 1))
    return score + random.normal(0, by_example, (2, 1, EXAMPLES)) > THRESHOLD


def coverages(studies: int) -> Iterator[Coverage]:
    """Yield the coverage of 95 % intervals for each spread and number of seeds."""
    for varies in SPREADS:
        for seeds in SEEDS:
            random = np.random.default_rng(seeds)
            yield _coverage(random, studies, seeds, varies)


def _coverage(
    random: np.random.Generator, studies: int, seeds: int, varies: str
) -> Coverage:
    held = np.zeros(2)
    for _ in range(studies):
        first, second = simulate_study(random, seeds, varies)
        gain = second.astype(np.float64) - first
        found = interval(gain.mean(1)), crossed_interval(gain)
        held += [each.low <= 0 <= each.high for each in found]
    return Coverage(varies, seeds, *(held / studies).tolist())


def alarms_after_looks(studies: int) -> float:
    """Return the share of null studies with p < 0.05 at any of the `LOOKS`.

    Each is tested after 3 seeds, and after every further seed up to 8.
    """
    differences = np.random.default_rng(0).normal(0, 1, (studies, LOOKS[-1]))
    found = [
        any(paired_t(row[:seeds]).p < LEVEL for seeds in LOOKS) for row in differences
    ]
    return float(np.mean(found))


def false_equivalences(studies: int, seeds: int) -> float:
    """Return the share of studies called equal whose difference is the margin."""
    differences = np.random.default_rng(1).normal(0.2, 0.1, (studies, seeds))
    return float(np.mean([equivalence(row, 0.2) < LEVEL for row in differences]))
