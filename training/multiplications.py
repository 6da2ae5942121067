"""How many multiplications the convolutions of a network take."""

import math
from typing import Any

from jaxtyping import Array, Int

from dropout import Drop, kind_of

TimeStep = Int[Array, ""] | int | None


def counting(drop: Drop, multiplications: list[int]) -> Drop:
    """Return a `drop` that appends the multiplications of each convolution to a list.

    With a batch of one example they are those of an example.
    """

    def drop_and_count(
        site: str, x: Array, *others: Any, time: TimeStep = None, reader: str = ""
    ) -> Array:
        y = drop(site, x, *others, time=time, reader=reader)
        if kind_of(site) == "kernel" and others[0].ndim == 4:
            multiplications.append(math.prod(y.shape) * math.prod(others[0].shape[:3]))
        return y

    return drop_and_count
