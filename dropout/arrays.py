"""Types of the arrays that variants take, and checks of these arrays."""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from dropout.deferred import Deferred

Examples = Float[Array, "n ..."]
Positions = Float[Array, "n *positions c"]  # tokens, or a feature map
Maps = Float[Array, "n height width channels"]
# What a variant that does nothing but multiply may be given, and gives back.
ExamplesLike = TypeVar("ExamplesLike", bound=Examples | Deferred)
PositionsLike = TypeVar("PositionsLike", bound=Positions | Deferred)
MapsLike = TypeVar("MapsLike", bound=Maps | Deferred)
Kernel = Float[Array, "*taps inputs outputs"]
KernelCopies = Float[Array, "n *taps inputs outputs"]
Operation = Callable[[Array, Array], Array]  # (x, kernel) -> product
Rate = Float[Array, ""] | np.floating | float


def widened(x: Array) -> Array:
    """Return x in the precision of arithmetic: float32, or float64 if x has it."""
    return x.astype(wide_dtype(x))


def wide_dtype(x: Array | Deferred) -> DTypeLike:
    """Return the dtype of `widened(x)`."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def check_alike(variant: str, x: Array, other: Array) -> None:
    """Raise ValueError if the second array differs from x in shape or dtype."""
    if (other.shape, other.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"{variant}: second array of shape {other.shape} and dtype {other.dtype}; "
            f"expected those of the first, {x.shape} and {x.dtype}."
        )
