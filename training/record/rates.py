"""Rates over a run, from the schedules, since logged steps can miss a switch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dropout import Row, Timeline, rows_at

MOST_STEPS = 2000  # More than a picture has columns of pixels.


class RateCurve(NamedTuple):
    """Sites whose rates are equal throughout, and these rates.

    Attributes:
        sites: their names, in the order of the network.
        epochs: the times.
        low: the rates, of a population the lowest among its members.
        high: the highest.
    """

    sites: tuple[str, ...]
    epochs: Float[np.ndarray, " times"]
    low: Float[np.ndarray, " times"]
    high: Float[np.ndarray, " times"]


def rate_curves(
    runs: list[tuple[Row, ...]], timeline: Timeline, done: int
) -> list[RateCurve]:
    """Return the rates up to a step, one curve for all sites where they are equal.

    Args:
        runs: the rows of a run, or of each member of a population, at their full rates.
        timeline: the length of the run.
        done: the steps that are shown.
    """
    steps = np.unique(np.linspace(0, done - 1, min(done, MOST_STEPS)).round())
    steps = steps.astype(np.int32)
    rates = np.stack([_rates(rows, timeline, steps) for rows in runs])
    names: dict[bytes, list[str]] = {}
    for index, row in enumerate(runs[0]):
        names.setdefault(rates[:, index].tobytes(), []).append(row.site)
    epochs = np.append(steps, done) / timeline.steps_per_epoch
    curves = []
    for content, sites in names.items():
        found = np.frombuffer(content, rates.dtype).reshape(len(runs), -1)
        # Each rate holds until the next step, the last one to the end.
        low, high = (
            np.append(bound, bound[-1]) for bound in (found.min(0), found.max(0))
        )
        curves.append(RateCurve(tuple(sites), epochs, low, high))
    return curves


def label_of(sites: tuple[str, ...]) -> str:
    """Return a short name of sites with one curve: the first, the last, how many."""
    if len(sites) <= 3:
        return ", ".join(sites)
    return f"{sites[0]} ... {sites[-1]} ({len(sites)} sites)"


def _rates(
    rows: tuple[Row, ...], timeline: Timeline, steps: np.ndarray
) -> Float[np.ndarray, "rows steps"]:
    def at(step: jax.Array) -> jax.Array:
        return jnp.stack(
            [row.rate + jnp.zeros(()) for row in rows_at(rows, step, timeline)]
        )

    return np.asarray(jax.vmap(at, out_axes=1)(jnp.asarray(steps)), np.float64)
