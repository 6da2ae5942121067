"""Telemetry: what dropout does at each site, summed in the training step itself.

The sums are computed as gradients: each watched site gets zeros as extra parameters,
and the backward pass returns the sums in place of their derivative. The sums thus add
up over micro-batches, draws, times and devices as gradients do, in one program.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout import Drop, identity
from dropout.deferred import Deferred, as_array
from dropout.sites import Bound
from training.network import Tree
from training.optimizer import TELEMETRY

Sums = dict[str, Float[Array, "..."]]  # of one site

# Rows of each micro-batch, whose order is random: enough for the figures, and cheap.
WATCHED_ROWS = 16
MOMENTS = (
    "count", "active", "dropped", "before", "before_squared", "after",
    "after_squared", "rows", "gradient_squared",
)  # fmt: skip


def empty_sums(channels: tuple[tuple[str, int], ...]) -> dict[str, Sums]:
    """Return sums of zero for sites with these numbers of channels."""
    return {
        site: {
            **{name: jnp.zeros((), jnp.float32) for name in MOMENTS},
            "activity": jnp.zeros(count, jnp.float32),
        }
        for site, count in channels
    }


def watch(drop: Drop, zeros: dict[str, Sums]) -> Drop:
    """Return the same `drop`, with the sums of each site as the gradient of `zeros`."""
    if not zeros:
        return drop

    def watched(
        site: str, x: Array | Deferred, *others: Any, time: Any = None, reader: str = ""
    ) -> Any:
        after = drop(site, x, *others, time=time, reader=reader)
        if site not in zeros:
            return after
        before = as_array(identity(site, x, *others))
        return _tap(zeros[site], before, as_array(after))

    # Whatever else `bind` has said of its own `drop` stays true of the watched one.
    return replace(drop, drop=watched) if isinstance(drop, Bound) else watched


def with_zeros(params: Tree, sums: dict[str, Sums]) -> Tree:
    """Return the parameters with zeros beside them, whose gradient will be the sums."""
    return {**params, TELEMETRY: jax.tree.map(jnp.zeros_like, sums)} if sums else params


def zeros_of(params: Tree) -> dict[str, Sums]:
    """Return the zeros among the parameters, or the sums among their gradient."""
    return params[TELEMETRY] if TELEMETRY in params else {}


def without_zeros(params: Tree) -> Tree:
    """Return the parameters alone."""
    return {name: params[name] for name in params if name != TELEMETRY}


def figures(sums: dict[str, Sums]) -> dict[str, Float[Array, ""]]:
    """Return the figures that are logged, from the sums since the last line, by name.

    drop_rate is the share of the values other than 0 that dropout makes 0. mean_ratio
    and variance_ratio are the mean and the variance of all elements after dropout over
    those before. dead_channels is the share of channels that were 0 throughout before
    dropout. gradient_norm is the root mean square over examples of the norm of the
    gradient of an example's loss.
    """
    found = {}
    for site, s in sums.items():
        count = jnp.maximum(s["count"], 1)
        before, after = s["before"] / count, s["after"] / count
        variances = (
            s["after_squared"] / count - after**2,
            s["before_squared"] / count - before**2,
        )
        found |= {
            f"drop_rate/{site}": _ratio(s["dropped"], s["active"]),
            f"mean_ratio/{site}": _ratio(after, before),
            f"variance_ratio/{site}": _ratio(*variances),
            f"dead_channels/{site}": jnp.mean(s["activity"] == 0, dtype=jnp.float32),
            f"gradient_norm/{site}": jnp.sqrt(_ratio(s["gradient_squared"], s["rows"])),
        }
    return found


def _ratio(a: Array, b: Array) -> Array:
    """Return a / b, and 0 for 0 / 0, so that the record holds numbers."""
    return a / jnp.where(b == 0, 1, b)


@jax.custom_vjp
def _tap(zeros: Sums, before: Array, after: Array) -> Array:
    """Return `after`; the gradient of `zeros` is the sums over `before` and `after`."""
    return after


def _forward(zeros: Sums, before: Array, after: Array) -> tuple[Array, Sums]:
    x, y = (a[:WATCHED_ROWS].astype(jnp.float32) for a in (before, after))
    # Under vmap over draws, arrays that do not depend on the draw would be summed only
    # once, so everything is made to depend on `after`.
    ones, x = jnp.where(y == y, 1.0, 1.0), jnp.where(y == y, x, x)
    active = x != 0
    sums = {
        "count": ones.sum(),
        "active": active.sum(dtype=jnp.float32),
        "dropped": (active & (y == 0)).sum(dtype=jnp.float32),
        "before": x.sum(),
        "before_squared": jnp.square(x).sum(),
        "after": y.sum(),
        "after_squared": jnp.square(y).sum(),
        "rows": ones.sum() / (x.size // x.shape[0]),
        "activity": jnp.abs(x).sum(tuple(range(x.ndim - 1))),
    }
    return after, sums


def _backward(sums: Sums, cotangent: Array) -> tuple:
    watched = cotangent[:WATCHED_ROWS].astype(jnp.float32)
    return {**sums, "gradient_squared": jnp.square(watched).sum()}, None, cotangent


_tap.defvjp(_forward, _backward)
