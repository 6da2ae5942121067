"""Parameters of a plan's learned rules: how they start, their penalty, their rates.

A rule whose variant is learned has parameters at each site that it wins, where others
have a rate; the rate in the plan is the one that they start with. Its schedule weighs
its regulariser.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.kinds import kind_of
from dropout.plan import Row
from dropout.schedules import Step, Timeline, factor_at
from dropout.variants import VARIANTS
from dropout.variants.entry import Learned, Parameters

Kernels = Mapping[str, Float[Array, "..."]]  # by site


class Place(NamedTuple):
    """A site at which a learned rule acts.

    Attributes:
        row: the rule's row there.
        shape: of the activation, (n, ...), or at a kernel site of the kernel.
        kernel: the site of the kernel that reads the activation, or the site itself.
    """

    row: Row
    shape: tuple[int, ...]
    kernel: str


def learned_places(
    rows: tuple[Row, ...], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Place, ...]:
    """The places of a plan's learned rules.

    Args:
        rows: the resolved plan.
        shapes: the shape at every site of the model, in the order of the calls: of the
            kernel at a kernel site, else of the activation.

    Raises:
        ValueError: no kernel reads a site.
    """
    return tuple(
        Place(row, shapes[row.site], _reader(row, tuple(shapes)))
        for row in rows
        if VARIANTS[row.variant.name].learned
    )


def initial_parameters(
    places: tuple[Place, ...], kernels: Kernels
) -> dict[str, Parameters]:
    """The parameters at each place, by site, that give the rates of the plan."""
    return {
        place.row.site: _learned(place).init(
            jnp.float32(place.row.rate), _value(place, kernels), **_options(place)
        )
        for place in places
    }


def penalty(
    places: tuple[Place, ...],
    params: Mapping[str, Parameters],
    kernels: Kernels,
    step: Step,
    timeline: Timeline,
) -> Float[Array, ""]:
    """The regularisers of all places, each times the factor of its schedule.

    In the units of a loss summed over the training examples.
    """
    terms = [
        factor_at(place.row.schedule, step, timeline)
        * _learned(place).penalty(
            params[place.row.site],
            kernels[place.kernel],
            place.shape[-1],
            **_options(place),
        )
        for place in places
    ]
    return sum(terms, jnp.zeros((), jnp.float32))


def learned_rates(
    places: tuple[Place, ...], params: Mapping[str, Parameters], kernels: Kernels
) -> dict[str, Float[Array, ""]]:
    """The rate that has been learned at each place, by site."""
    return {
        place.row.site: _learned(place).rate(
            params[place.row.site], kernels[place.kernel]
        )
        for place in places
    }


def kept_weights(
    places: tuple[Place, ...], params: Mapping[str, Parameters], kernels: Kernels
) -> tuple[int, int]:
    """How many weights there are where a rule prunes, and how many it leaves."""
    before = after = 0
    for place in places:
        prune = _learned(place).prune
        if prune is not None:
            kernel = kernels[place.kernel]
            before += kernel.size
            after += int(jnp.count_nonzero(prune(params[place.row.site], kernel)))
    return before, after


def _reader(row: Row, sites: tuple[str, ...]) -> str:
    later = sites[sites.index(row.site) :]
    kernels = [site for site in later if kind_of(site) == "kernel"]
    if not kernels:
        raise ValueError(
            f"{row.variant} at {row.site!r}: no kernel comes after it; expected a "
            "site that a layer with a kernel reads."
        )
    return kernels[0]


def _learned(place: Place) -> Learned:
    found = VARIANTS[place.row.variant.name].learned
    assert found is not None
    return found


def _options(place: Place) -> dict:
    return dict(place.row.variant.options)


def _value(place: Place, kernels: Kernels) -> Array:
    """The kernel at a kernel site, else anything of the activation's shape."""
    if kind_of(place.row.site) == "kernel":
        return kernels[place.kernel]
    return jnp.zeros(place.shape, jnp.float32)
