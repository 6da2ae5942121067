"""Parameters of learned variants: how they start, their penalty and their rates.

At each site that a rule with a learned variant wins, parameters replace the
rate; the rate in the plan is the one with which they start. The rule's schedule weighs
the regulariser.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.kinds import kind_of
from dropout.recording import Site
from dropout.rows import Row
from dropout.schedules import Step, Timeline, factor_at
from dropout.variants import VARIANTS
from dropout.variants.entry import Learned, Parameters

KernelsBySite = Mapping[str, Float[Array, "..."]]


class LearnedRow(NamedTuple):
    """A row of a plan whose variant is learned.

    Attributes:
        row: the row.
        shape: the shape of the activation, (n, ...), or at a kernel site of the kernel.
        kernel: the site of the kernel that reads the activation, or the site itself.
    """

    row: Row
    shape: tuple[int, ...]
    kernel: str


def learned_rows(
    rows: tuple[Row, ...], sites: tuple[Site, ...]
) -> tuple[LearnedRow, ...]:
    """Return the rows of a plan whose variants are learned, each with its kernel.

    Args:
        rows: the resolved plan.
        sites: the sites of the model (`record_sites`).

    Raises:
        ValueError: no kernel reads the activation at such a site.
    """
    by_name = {site.name: site for site in sites}
    return tuple(
        LearnedRow(row, by_name[row.site].shape, _kernel(row, by_name[row.site]))
        for row in rows
        if VARIANTS[row.variant.name].learned
    )


def initial_parameters(
    learned: tuple[LearnedRow, ...], kernels: KernelsBySite
) -> dict[str, Parameters]:
    """Return the parameters that give the rates of the plan, by site."""
    return {
        item.row.site: _learned(item).init(
            jnp.float32(item.row.rate), _value(item, kernels), **_options(item)
        )
        for item in learned
    }


def penalty(
    learned: tuple[LearnedRow, ...],
    params: Mapping[str, Parameters],
    kernels: KernelsBySite,
    step: Step,
    timeline: Timeline,
) -> Float[Array, ""]:
    """Return the sum of all regularisers, each times the factor of its schedule.

    It is in the units of a loss that is summed over the training examples.
    """
    terms = [
        factor_at(item.row.schedule, step, timeline)
        * _learned(item).penalty(
            params[item.row.site],
            kernels[item.kernel],
            item.shape[-1],
            **_options(item),
        )
        for item in learned
    ]
    return sum(terms, jnp.zeros((), jnp.float32))


def learned_rates(
    learned: tuple[LearnedRow, ...],
    params: Mapping[str, Parameters],
    kernels: KernelsBySite,
) -> dict[str, Float[Array, ""]]:
    """Return the rates that have been learned, by site."""
    return {
        item.row.site: _learned(item).rate(params[item.row.site], kernels[item.kernel])
        for item in learned
    }


def kept_weights(
    learned: tuple[LearnedRow, ...],
    params: Mapping[str, Parameters],
    kernels: KernelsBySite,
) -> tuple[int, int]:
    """Count the weights where a variant prunes: before pruning, and after it."""
    before = after = 0
    for item in learned:
        prune = _learned(item).prune
        if prune is not None:
            kernel = kernels[item.kernel]
            before += kernel.size
            after += int(jnp.count_nonzero(prune(params[item.row.site], kernel)))
    return before, after


def _kernel(row: Row, site: Site) -> str:
    if not site.reader:
        raise ValueError(
            f"{row.variant} at {row.site!r}: no kernel comes after it; expected a "
            "site that a layer with a kernel reads."
        )
    return site.reader


def _learned(item: LearnedRow) -> Learned:
    found = VARIANTS[item.row.variant.name].learned
    assert found is not None
    return found


def _options(item: LearnedRow) -> dict:
    return dict(item.row.variant.options)


def _value(item: LearnedRow, kernels: KernelsBySite) -> Array:
    """The kernel at a kernel site, else anything of the activation's shape."""
    if kind_of(item.row.site) == "kernel":
        return kernels[item.kernel]
    return jnp.zeros(item.shape, jnp.float32)
