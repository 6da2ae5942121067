"""Kinds of site: what a model passes to `drop` there, and what the plain network does.

| last segment | call | the plain network |
|---|---|---|
| (an activation) | `drop(site, x)` | `x` |
| `kernel` | `drop(site, x, kernel, operation)` | `operation(x, kernel)` |
| `window` | `drop(site, x, pool)` | `pool(x)` |
| `state` | `drop(site, new, old)` | `new` |
| `branches` | `drop(site, first, second)` | `(first + second) / 2` |
| `act` | `drop(site, x, nonlinearity)` | `nonlinearity(x)` |

An activation is of kind `input`, `pre`, `branch`, `logits` or `weights` where its last
segment says so, else of kind `activation`. A site whose whole name is `act`
is an activation, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from dropout.deferred import Deferred

ACTIVATIONS = ("activation", "input", "pre", "branch", "logits", "weights")

PLAIN: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(ACTIVATIONS, lambda x: x),
    "kernel": lambda x, kernel, operation: operation(x, kernel),
    "window": lambda x, pool: pool(x),
    "state": lambda new, old: new,
    "branches": lambda first, second: (first + second) / 2,
    "act": lambda x, nonlinearity: nonlinearity(x),
}


def kind_of(site: str) -> str:
    """Return the kind of a site, which its last segment fixes."""
    above, _, last = site.rpartition("/")
    return last if last in PLAIN and (above or last != "act") else "activation"


def identity(
    site: str, x: Array | Deferred, *others: Any, time: Any = None, reader: str = ""
) -> Any:
    """Return what the plain network computes at a site, an array if x is one.

    It is the `drop` of evaluation where no variant has a form of its own. `time`, the
    step of the scan in which the site is called, and `reader`, the kernel site that
    reads the activation, change nothing here.
    """
    return PLAIN[kind_of(site)](x, *others)


@dataclass(frozen=True)
class TakesDeferred:
    """A `drop` that may be given a `Deferred` instead of an array.

    It is a class because a mark on the function itself would be copied by
    `functools.wraps` to a wrapper that only knows arrays.
    """

    drop: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the `drop`."""
        return self.drop(*arguments, **options)


def takes_deferred(drop: Callable) -> bool:
    """Return whether a `drop` may be given a `Deferred` instead of an array."""
    return drop is identity or isinstance(drop, TakesDeferred)
