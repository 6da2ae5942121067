"""Arrays that are computed where they are read, and may first be multiplied by noise.

A model may pass a `Deferred` to a `drop` instead of an array. The operation that reads
the array later then draws the noise in its own loop, so that neither the array nor its
product with the noise is ever written. `bind` gives a `Deferred` to a variant that does
nothing but multiply, and the array itself to every other variant. A `drop` that a user
wrote gets arrays alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, DTypeLike


class Deferred(ABC):
    """An array that is not computed yet, which offers to be multiplied by noise."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""

    @property
    @abstractmethod
    def dtype(self) -> DTypeLike:
        """The dtype of the array."""

    @property
    def ndim(self) -> int:
        """The number of the array's axes."""
        return len(self.shape)

    @abstractmethod
    def array(self) -> Array:
        """Compute the array."""

    @abstractmethod
    def times(
        self, noise: Callable, seeds: Array, rate: Array, given: tuple[Array, ...]
    ) -> "Deferred | Array":
        """Return what `dropout.noise.times` makes of the array, deferred or not."""


def as_array(x: Any) -> Any:
    """Return the array of a `Deferred`, and anything else as it is."""
    return x.array() if isinstance(x, Deferred) else x


def reading(function: Callable[..., Any]) -> Callable[..., Array]:
    """Return the same function with the array of each `Deferred` that it returns."""
    return lambda *arguments: as_array(function(*arguments))
