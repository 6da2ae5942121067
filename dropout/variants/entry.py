"""What the registry keeps of a variant: how to draw it, where, and how it evaluates."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Array, Float

from dropout.keys import AnyKey
from dropout.kinds import ACTIVATIONS
from dropout.noise import Rate

Unit = Literal["example", "batch"]
Domain = Literal["[0, 1]", "[0, 1)"]
Per = Literal["step", "sequence"]
Law = Literal[
    "mean",  # E[draw] is the rule at test
    "rate",  # the fraction `rate` of all elements is dropped on average
    "nested",  # what a rate drops, every higher rate drops too
    "keys",  # another key gives another mask
    "gradient",  # the derivative is that of the forward pass with its noise held
    "memory",  # the backward pass keeps nothing of the size of a mask
]


@dataclass(frozen=True)
class Variant:
    """One dropout variant, called as `entry(key, x, rate, **options)` in training.

    Attributes:
        draw: `(key, x, rate, *others, **options) -> x`, pure; options are keyword-only.
        kinds: the kinds of site that it can act on (`dropout.kinds`).
        evaluate: `(x, rate, *others, **options) -> x`, its rule at test; None where
            that is the plain network.
        scaling: `(x, rate, *others) -> x`, weight scaling, where its rule at test is
            another.
        moment_matched: `(key, x, rate, kernel, operation) -> x`, at a kernel site a
            draw of the product from a Gaussian of its moments; None where that is not
            known.
        domain: the rates that it is defined for.
        unit: whether a mask belongs to an example or to a whole batch, unless a rule
            says otherwise.
        per: at a site inside a scan over time, whether a mask is drawn at each step or
            once a sequence.
        expectation: `(x, rate, *others, **options) -> E[draw]` where that is known and
            not the rule at test.
        exempt: laws that it does not obey, each with the reason; the test suite asserts
            that it does not, and that it obeys all others.
    """

    draw: Callable[..., Array]
    kinds: tuple[str, ...] = ACTIVATIONS
    evaluate: Callable[..., Array] | None = None
    scaling: Callable[..., Array] | None = None
    moment_matched: Callable[..., Array] | None = None
    domain: Domain = "[0, 1]"
    unit: Unit = "example"
    per: Per = "step"
    expectation: Callable[..., Array] | None = None
    exempt: Mapping[Law, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in flags and in the registry."""
        return self.draw.__name__

    def __call__(
        self, key: AnyKey, x: Float[Array, "n ..."], rate: Rate, *others, **options
    ) -> Float[Array, "n ..."]:
        """The training draw; a rate that is still a Python number is checked."""
        self.check_rate(rate)
        return self.draw(key, x, rate, *others, **options)

    def check_rate(self, rate: Rate) -> None:
        """Raises ValueError for a Python number outside the domain, or NaN."""
        if not isinstance(rate, (int, float)):
            return
        below = rate <= 1 if self.domain.endswith("]") else rate < 1
        if math.isnan(rate) or rate < 0 or not below:
            raise ValueError(f"{self.name}: rate {rate!r} is outside {self.domain}.")
