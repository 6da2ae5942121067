"""Meshes with explicit axes, on which masks must not depend."""

from collections.abc import Callable
from typing import TypeVar, cast

import jax
from jaxtyping import Array

from dropout.deferred import Deferred, as_array, reading

Arguments = TypeVar("Arguments")


def with_automatic_axes(
    function: Callable[[Arguments], Array | Deferred],
    plain: Callable[[Arguments], Array | Deferred],
    arguments: Arguments,
) -> Array | Deferred:
    """Return `function(arguments)` with explicit mesh axes made automatic within.

    XLA then spreads the masks as it spreads the arrays that they multiply. The result
    is spread as `plain(arguments)` would be; only the type of this is computed. Only
    arrays can pass from one kind of axes to the other: what is deferred is computed
    first.
    """
    if not jax.sharding.get_abstract_mesh().explicit_axes:
        return function(arguments)
    arguments = jax.tree.map(
        as_array, arguments, is_leaf=lambda leaf: isinstance(leaf, Deferred)
    )
    spread = jax.eval_shape(reading(plain), arguments).sharding.spec
    within = jax.sharding.auto_axes(reading(function), out_sharding=spread)
    return cast(Callable[[Arguments], Array], within)(arguments)
