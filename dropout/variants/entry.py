"""Entries of the registry: how a variant draws, where it acts, how it evaluates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, cast

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dropout.arrays import ExamplesLike, Rate
from dropout.deferred import Deferred, as_array
from dropout.grammar import Call, check_options, lies_in
from dropout.keys import AnyKey, check_key
from dropout.kinds import ACTIVATIONS
from dropout.meshes import with_automatic_axes
from dropout.noise import fixed_rate

MOST_AXES = 32

MaskUnit = Literal["example", "batch", "run"]
Domain = Literal["[0, 1]", "[0, 1)", "(0, 1)", "(0, 0.5]"]
Per = Literal["step", "sequence"]
KernelForm = Literal["copies", "product"]
Parameters = Mapping[str, Float[Array, "..."]]
Law = Literal[
    "mean",  # E[draw] is what it does at test
    "rate",  # the fraction `rate` of all elements is dropped on average
    "nested",  # what a rate drops, every higher rate drops too
    "keys",  # another key gives another mask
    "gradient",  # the derivative is of the forward pass with its noise held
    "memory",  # the backward pass keeps nothing of the size of a mask
]


@dataclass(frozen=True)
class Learned:
    """The functions of a variant whose rate is learned, through its parameters.

    Each function also takes the variant's options as keywords, except `rate` and
    `prune`. The kernel is the site's own, or the one that reads the site.

    Attributes:
        init: `(rate, x) -> parameters` that give this rate; `x` is the kernel at a
            kernel site, else the activation, of which only the shape counts.
        rate: `(parameters, kernel) -> rate`, the rate that is logged.
        penalty: `(parameters, kernel, channels) -> regulariser`, which is added to the
            loss summed over all training examples; `channels` are the site's.
        prune: `(parameters, kernel) -> kernel` without the weights that evaluation
            leaves out.
    """

    init: Callable[..., Parameters]
    rate: Callable[..., Float[Array, ""]]
    penalty: Callable[..., Float[Array, ""]]
    prune: Callable[..., Array] | None = None


@dataclass(frozen=True)
class Variant:
    """One dropout variant, called as `entry(key, x, rate, **options)` in training.

    The functions of a learned variant take its parameters where others take a rate;
    called with a rate, the entry passes the parameters that give this rate.

    Attributes:
        draw: `(key, x, rate, *others, **options) -> x`, pure; options are keyword-only.
        kinds: the kinds of site that it can act on (`dropout.kinds`).
        needs_start: whether it takes, after the rate, the kernel as it was before the
            first step.
        evaluate: `(x, rate, *others, **options) -> x`, what it does at test; None where
            that is the plain network.
        scaling: `(x, rate, *others) -> x`, weight scaling, where `evaluate` is not
            weight scaling itself.
        moment_matched: `(key, x, rate, kernel, operation) -> x`, at a kernel site a
            draw of the product from a Gaussian with its moments; None where they are
            not known.
        domain: the rates that it is defined for.
        unit: whether a mask belongs to an example, to a whole batch or to a whole run,
            unless a rule says otherwise.
        needs_number: whether it takes, after the rate, which of a run's masks each row
            gets.
        axes: the fewest and the most axes of x, that of the batch included.
        per: at a site inside a scan over time, whether a mask is drawn at each step or
            once per sequence.
        expectation: `(x, rate, *others, **options) -> E[draw]`, where it is known and
            differs from `evaluate`.
        exempt: the laws that it does not obey, each with the reason; the test suite
            asserts that it breaks these and obeys all others.
        kernel_form: whether at a kernel site it draws copies of the kernel, or, called
            with `(key, x, rate, kernel, operation)`, the product with it.
        learned: its further functions, where its rate is learned.
        multiplies: whether the draw only multiplies x by noise that does not depend on
            it (`dropout.noise.multiply`), so that x may be a `Deferred`.
    """

    draw: Callable[..., Array]
    kinds: tuple[str, ...] = ACTIVATIONS
    evaluate: Callable[..., Array] | None = None
    scaling: Callable[..., Array] | None = None
    moment_matched: Callable[..., Array] | None = None
    domain: Domain = "[0, 1]"
    unit: MaskUnit = "example"
    needs_number: bool = False
    needs_start: bool = False
    axes: tuple[int, int] = (1, MOST_AXES)
    per: Per = "step"
    expectation: Callable[..., Array] | None = None
    exempt: Mapping[Law, str] = field(default_factory=dict)
    kernel_form: KernelForm = "copies"
    learned: Learned | None = None
    multiplies: bool = False

    @property
    def name(self) -> str:
        """The name in flags and in the registry."""
        return self.draw.__name__

    def __call__(
        self,
        key: AnyKey,
        x: ExamplesLike,
        rate: Rate | Parameters,
        *others,
        **options,
    ) -> ExamplesLike:
        """Draw as in training, and check the arguments.

        Raises:
            ValueError: a concrete rate outside the domain, an array of rates, an array
                that is not of floating point or has too few or too many axes, an
                option that does not exist or is outside its domain, or a key that is
                not typed.
        """
        check_key(key)
        check_options("variant", Call(self.name, tuple(options.items())), self.draw)
        taken = x
        if not (self.multiplies and isinstance(x, Deferred)):
            taken = jnp.asarray(as_array(x))
        self.check_array(taken)
        if not isinstance(rate, Mapping):
            self.check_rate(rate)
        arrays = tuple(item for item in others if not callable(item))
        functions = others[len(arrays) :]

        def draw(arguments: tuple) -> Array | Deferred:
            key, x, rate, arrays = arguments
            passed = (*arrays, *functions)
            if not isinstance(rate, Mapping):
                rate = self.parameters(rate, x, *passed, **options)
            return self.draw(key, x, rate, *passed, **options)

        def plain(arguments: tuple) -> Array | Deferred:
            _, x, _, arrays = arguments
            return functions[0](x, *arrays) if functions else x

        drawn = with_automatic_axes(draw, plain, (key, taken, rate, arrays))
        return cast(ExamplesLike, drawn)

    def parameters(
        self, rate: Rate, x: Array | Deferred, *others, **options
    ) -> Rate | Parameters:
        """Return what its functions take: the rate, or parameters that give it."""
        if self.learned is None:
            return rate
        return self.learned.init(
            fixed_rate(rate, x), others[0] if others else x, **options
        )

    def check_array(self, x: Array | Deferred) -> None:
        """Raise ValueError for an array of another type or with another number of axes.

        A single row, for example under `vmap`, needs a batch axis of length 1.
        """
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"{self.name}: x of dtype {x.dtype}; expected real floating point, "
                "such as float32."
            )
        least, most = self.axes
        if not least <= x.ndim <= most:
            count = f"at least {least}" if most == MOST_AXES else f"{least} to {most}"
            raise ValueError(
                f"{self.name}: x of shape {x.shape}; expected a batch of rows, with "
                f"{count} axes in all (x[None] gives a single row its batch axis)."
            )

    def check_rate(self, rate: Any) -> None:
        """Raise ValueError for an array of rates, or a rate outside the domain.

        Only the shape of a traced rate is known.
        """
        if np.shape(rate) != () or not _is_number(rate):
            raise ValueError(
                f"{self.name}: rate of shape {np.shape(rate)} and type "
                f"{type(rate).__name__}; expected one real number (jax.vmap over the "
                "rows gives each of them a rate)."
            )
        if isinstance(rate, Tracer):
            return
        number = float(rate)
        if not lies_in(number, self.domain):
            raise ValueError(f"{self.name}: rate {number!r} is outside {self.domain}.")


def _is_number(value: Any) -> bool:
    """Return whether a value is a real number; True and "0.5" are not.

    The value may be traced.
    """
    if hasattr(value, "dtype"):
        kinds = jnp.floating, jnp.integer
        return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    return isinstance(value, Real) and not isinstance(value, bool)
