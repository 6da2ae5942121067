"""Spaces of plans and flags, and samplers of points in them.

An example is `rate=0.1..0.7; sites=fc, conv*; learning_rate=log(1e-4..1e-2)`. A name
stands for `{rate}` or `{sites}` in a plan's template, or it is a flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, exp, log, log2

import numpy as np
from scipy.stats import qmc

from dropout.grammar import lookup, split_outside

GRID_POINTS = 5
BORDER = 0.05  # The share of a range at each of its ends that counts as its border.
DIGITS = 4  # Significant digits of a sample from a range.


@dataclass(frozen=True)
class Choices:
    """A dimension whose values are a list of texts."""

    values: tuple[str, ...]

    def at(self, share: float) -> str:
        """Return the text at a relative position in [0, 1) in the list."""
        return self.values[int(share * len(self.values))]

    def grid(self) -> tuple[str, ...]:
        """Return all texts."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A dimension of numbers, uniform on a linear or a logarithmic scale."""

    low: float
    high: float
    logarithmic: bool
    points: int

    def at(self, share: float) -> str:
        """Return the number at a relative position in [0, 1] in the range."""
        if self.logarithmic:
            low, high = log(self.low), log(self.high)
            return f"{exp(low + share * (high - low)):.{DIGITS}g}"
        return f"{self.low + share * (self.high - self.low):.{DIGITS}g}"

    def grid(self) -> tuple[str, ...]:
        """Return `points` numbers from the lowest to the highest."""
        return tuple(self.at(share) for share in np.linspace(0, 1, self.points))


Space = Mapping[str, Choices | Range]
Sample = dict[str, str]


def parse_space(text: str) -> Space:
    """Read `name=a, b, c; name=low..high; name=log(low..high)`.

    In a grid a range has five points, or the number after a slash: `low..high/9`.

    Raises:
        ValueError: the text has another form.
    """
    space: dict[str, Choices | Range] = {}
    for part in split_outside(text, ";"):
        name, found, values = part.partition("=")
        if not found or not name.strip().isidentifier() or not values.strip():
            raise ValueError(f"--space: {part.strip()!r}: expected name=values.")
        space[name.strip()] = _parse_dimension(values.strip())
    return space


def _parse_dimension(text: str) -> Choices | Range:
    inner, logarithmic = text, text.startswith("log(") and ")" in text
    if logarithmic:
        inner = text[4:].replace(")", "", 1)
    bounds, _, points = inner.partition("/")
    low, dots, high = bounds.partition("..")
    try:
        span = (float(low), float(high)) if dots else None
        count = int(points) if points else GRID_POINTS
    except ValueError:
        span, count = None, GRID_POINTS
    if span is None:
        return Choices(tuple(part.strip() for part in split_outside(text, ",")))
    if not span[0] < span[1] or (logarithmic and span[0] <= 0) or count < 2:
        raise ValueError(
            f"--space: {text!r}: expected low < high (above 0 for log), and two points "
            "or more."
        )
    return Range(*span, logarithmic, count)


def grid(space: Space, count: int, seed: int) -> list[Sample]:
    """Return all combinations; `count` and `seed` have no effect."""
    columns = [dimension.grid() for dimension in space.values()]
    return [dict(zip(space, point)) for point in product(*columns)]


def random(space: Space, count: int, seed: int) -> list[Sample]:
    """Return `count` independent points."""
    return _samples(space, np.random.default_rng(seed).random((count, len(space))))


def sobol(space: Space, count: int, seed: int) -> list[Sample]:
    """Return the first `count` points of a scrambled Sobol sequence (Owen 1998)."""
    sequence = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    return _samples(space, sequence.random_base2(ceil(log2(max(count, 1))))[:count])


SAMPLERS = {"grid": grid, "random": random, "sobol": sobol}


def sample_points(sampler: str, space: Space, count: int, seed: int) -> list[Sample]:
    """Return the points of a sampler without repetitions, in its order.

    Raises:
        ValueError: the sampler does not exist.
    """
    points = lookup("sampler", sampler, SAMPLERS)(space, count, seed)
    return [dict(items) for items in dict.fromkeys(tuple(p.items()) for p in points)]


def is_number(text: str) -> bool:
    """Return whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def at_border(dimension: Choices | Range, text: str) -> bool:
    """Return whether a value lies in the outer 5 % of a range, or ends its numbers.

    Of texts that are no numbers none is at a border.
    """
    if isinstance(dimension, Choices):
        if not all(map(is_number, dimension.values)):
            return False
        numbers = [float(value) for value in dimension.values]
        return float(text) in (min(numbers), max(numbers))
    low, high, value = dimension.low, dimension.high, float(text)
    if dimension.logarithmic:
        low, high, value = log(low), log(high), log(value)
    return not BORDER < (value - low) / (high - low) < 1 - BORDER


def fill(template: str, sample: Sample) -> tuple[str, Sample]:
    """Return the plan of a sample, and its other values, which are flags.

    Raises:
        ValueError: the space does not have a name in the template.
    """
    text, flags = template, dict(sample)
    for name, value in sample.items():
        if f"{{{name}}}" in template:
            text = text.replace(f"{{{name}}}", value)
            del flags[name]
    if "{" in text:
        raise ValueError(
            f"--plan={template}: {text[text.index('{') :]!r} is no name of --space: "
            f"{', '.join(sample)}."
        )
    return text, flags


def _samples(space: Space, shares: np.ndarray) -> list[Sample]:
    return [
        {name: dim.at(share) for (name, dim), share in zip(space.items(), row)}
        for row in shares.tolist()
    ]
