"""Ranges of rates over depth: from the first site that a rule wins to the last.

In a plan `0.0..0.2` is the linear range, and a name around it picks another one:
`huang(0.0..0.2)`, `exponential(0.0..0.2)`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Span(NamedTuple):
    """A range of rates: from `first` at the first site to `last` at the last."""

    first: float
    last: float
    depth: str = "linear"

    def __str__(self) -> str:
        text = f"{self.first!r}..{self.last!r}"
        return text if self.depth == "linear" else f"{self.depth}({text})"


def linear(index: int, count: int) -> float:
    """Rises from 0 at the first site to 1 at the last, as in timm: i / (L - 1)."""
    return index / (count - 1)


def huang(index: int, count: int) -> float:
    """Rises to 1 at the last site, and is 1 / L at the first: (i + 1) / L.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", ECCV.
    """
    return (index + 1) / count


def exponential(index: int, count: int) -> float:
    """Rises from 0 to 1, slowly at first: 2^(i / (L - 1)) - 1.

    Source: Elhoushi et al. 2024, "LayerSkip: Enabling Early Exit Inference and
        Self-Speculative Decoding", ACL.
    """
    return 2 ** (index / (count - 1)) - 1


DEPTHS: dict[str, Callable[[int, int], float]] = {
    function.__name__: function for function in (linear, huang, exponential)
}


def parse_span(text: str) -> Span:
    """Read `a..b` or `name(a..b)`, with a known name; ValueError for another form."""
    called = re.fullmatch(r"(\w+)\((.*)\)", text)
    depth, ends = called.groups() if called else ("linear", text)
    first, last = ends.split("..", 1)
    return Span(float(first), float(last), depth)


def rates_of(span: Span, count: int) -> tuple[float, ...]:
    """Return the rates at `count` sites; one site has the rate `last`."""
    first, last, depth = span
    if count == 1:
        return (last,)
    shares = (DEPTHS[depth](index, count) for index in range(count))
    return tuple(first + (last - first) * share for share in shares)
