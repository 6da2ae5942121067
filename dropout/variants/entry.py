"""What the registry keeps of a variant: how to draw it, where, and how it evaluates."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Array, Float

from dropout.keys import AnyKey
from dropout.kinds import ACTIVATIONS
from dropout.noise import Rate, fixed_rate

Unit = Literal["example", "batch"]
Domain = Literal["[0, 1]", "[0, 1)", "(0, 1)", "(0, 0.5]"]
Per = Literal["step", "sequence"]
KernelForm = Literal["copies", "product"]
Parameters = Mapping[str, Float[Array, "..."]]
Law = Literal[
    "mean",  # E[draw] is the rule at test
    "rate",  # the fraction `rate` of all elements is dropped on average
    "nested",  # what a rate drops, every higher rate drops too
    "keys",  # another key gives another mask
    "gradient",  # the derivative is that of the forward pass with its noise held
    "memory",  # the backward pass keeps nothing of the size of a mask
]


@dataclass(frozen=True)
class Learned:
    """What a variant brings whose rate is learned: it has parameters in place of it.

    Each function takes the variant's options as keywords besides. The kernel is that of
    the site, or the one that reads the site.

    Attributes:
        init: `(rate, x) -> parameters` that give this rate; `x` is the kernel at a
            kernel site, else the activation, of which only the shape counts.
        rate: `(parameters, kernel) -> rate`, as it is logged.
        penalty: `(parameters, kernel, channels) -> regulariser`: what is added to the
            loss summed over all training examples; `channels` are the site's.
        prune: `(parameters, kernel) -> kernel` without what evaluation leaves out.
    """

    init: Callable[..., Parameters]
    rate: Callable[..., Float[Array, ""]]
    penalty: Callable[..., Float[Array, ""]]
    prune: Callable[..., Array] | None = None


@dataclass(frozen=True)
class Variant:
    """One dropout variant, called as `entry(key, x, rate, **options)` in training.

    The functions of a learned variant take its parameters where others take a rate;
    called with a rate, the entry gives them those that it starts with.

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
        kernel_form: whether at a kernel site it draws copies of the kernel, or, called
            with `(key, x, rate, kernel, operation)`, the product with it.
        learned: what it brings where its rate is learned.
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
    kernel_form: KernelForm = "copies"
    learned: Learned | None = None

    @property
    def name(self) -> str:
        """The name in flags and in the registry."""
        return self.draw.__name__

    def __call__(
        self,
        key: AnyKey,
        x: Float[Array, "n ..."],
        rate: Rate | Parameters,
        *others,
        **options,
    ) -> Float[Array, "n ..."]:
        """The training draw; a rate that is still a Python number is checked."""
        if not isinstance(rate, Mapping):
            self.check_rate(rate)
            rate = self.parameters(rate, x, *others, **options)
        return self.draw(key, x, rate, *others, **options)

    def parameters(self, rate: Rate, x: Array, *others, **options) -> Rate | Parameters:
        """What its functions take for a rate: the rate, or parameters that give it."""
        if self.learned is None:
            return rate
        return self.learned.init(
            fixed_rate(rate), others[0] if others else x, **options
        )

    def check_rate(self, rate: Rate) -> None:
        """Raises ValueError for a Python number outside the domain, or NaN."""
        if not isinstance(rate, (int, float)):
            return
        low, high = map(float, self.domain[1:-1].split(", "))
        above = rate >= low if self.domain.startswith("[") else rate > low
        below = rate <= high if self.domain.endswith("]") else rate < high
        if math.isnan(rate) or not (above and below):
            raise ValueError(f"{self.name}: rate {rate!r} is outside {self.domain}.")
