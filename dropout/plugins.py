"""Variants and schedules of a user's own, which join the registries.

A module that `--plugins=package.module` names calls these when it is imported:

from dropout import Variant, register_schedule, register_variant
register_variant(Variant(my_variant, kinds=("activation",)))
register_schedule(my_schedule)
"""

import inspect
from collections.abc import Callable
from typing import Any

from dropout.factors import Factor
from dropout.grammar import option_types
from dropout.schedules import SCHEDULES
from dropout.variants import VARIANTS, Variant

POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def register_variant(entry: Variant) -> None:
    """Add a variant under the name of its function, for plans to name.

    Raises:
        ValueError: the name is taken, or the function is not called as
            `(key, x, rate, *, option: type = default)`.
    """
    _check("variant", entry.draw, ("key", "x", "rate"), VARIANTS)
    VARIANTS[entry.name] = entry


def register_schedule(function: Callable[..., Factor]) -> None:
    """Add a schedule under the name of its function, for rules to name.

    It is called as `(step, total, *, option: type = default)` with a step that may be
    traced, and returns a factor in [0, 1]. Options annotated `dropout.factors.Time`
    arrive as whole steps.

    Raises:
        ValueError: the name is taken, or the function is called otherwise.
    """
    _check("schedule", function, ("step", "total"), SCHEDULES)
    SCHEDULES[function.__name__] = function


def _check(
    kind: str, function: Callable, inputs: tuple[str, ...], registry: dict[str, Any]
) -> None:
    name, signature = function.__name__, inspect.signature(function)
    if name in registry:
        raise ValueError(
            f"{kind} {name!r} of {function.__module__}: there is one of this name "
            "already; expected another name."
        )
    parameters = signature.parameters.values()
    first = tuple(item.name for item in parameters if item.kind in POSITIONAL)
    options = [item for item in parameters if item.kind is item.KEYWORD_ONLY]
    plain = all(item.annotation is not item.empty for item in options)
    if first[: len(inputs)] != inputs or not plain or not name.isidentifier():
        raise ValueError(
            f"{kind} {name}{signature}: expected a function with a name, called as "
            f"({', '.join(inputs)}, *, option: type = default)."
        )
    option_types(function)
