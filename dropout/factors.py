"""Factors in [0, 1] as functions of the step: the shapes of schedules.

A schedule is `(step, total, **options) -> factor`: `step` may be traced and counts from
0, `total` is the number of steps in the run. An option annotated `Time` is a time in
the run: in flags a fraction of it, or steps or epochs with `unit=...`. The function
gets it as whole steps, so that a cut-off is an integer comparison.
"""

from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

Time = Annotated[int | float, "a time in the run"]
Step = Integer[Array, ""] | int
Factor = Float[Array, ""]


def constant(step: Step, total: int) -> Factor:
    """Stays at 1."""
    return jnp.ones((), jnp.float32)


def linear(step: Step, total: int, *, start: Time = 0.0, end: Time = 1.0) -> Factor:
    """Rises from 0 at `start` to 1 at `end`: min(1, (step - start) / (end - start)).

    With the default options it is the ramp of DropBlock (Ghiasi et al. 2018), with
    `end` at the burn-in the ramp of ScheduledDropPath (Zoph et al. 2018). It is also
    registered under both names.

    `check_schedule` refuses an end before the start.
    """
    return jnp.clip(_float(step - start) / max(end - start, 1), 0, 1)


def decay(step: Step, total: int, *, start: Time = 0.0, end: Time = 1.0) -> Factor:
    """Falls from 1 at `start` to 0 at `end`: 1 - (step - start) / (end - start).

    It is also registered as `annealed`: annealed dropout (Rennie et al. 2014).
    """
    return 1 - linear(step, total, start=start, end=end)


def early(
    step: Step,
    total: int,
    *,
    until: Time = 0.5,
    shape: Literal["constant", "linear"] = "constant",
) -> Factor:
    """Early dropout (Liu et al. 2023): 1 before step `until`, then 0.

    With shape "linear" it is max(0, 1 - step / until). The authors' code divides by
    until - 1 and so reaches 0 one step earlier, in the last step before `until`.
    """
    if shape == "linear":
        return decay(step, total, start=0, end=until)
    return _float(jnp.asarray(step) < until)


def late(
    step: Step,
    total: int,
    *,
    start: Time = 0.5,
    shape: Literal["constant", "linear"] = "constant",
) -> Factor:
    """Late dropout (Liu et al. 2023): 0 before step `start`, then 1.

    With shape "linear" it rises from 0 at `start` to 1 at the end of the run.
    """
    if shape == "linear":
        return linear(step, total, start=start, end=total)
    return _float(jnp.asarray(step) >= start)


def cosine(step: Step, total: int) -> Factor:
    """Falls from 1 to 0 along half a cosine: (1 + cos(pi step / total)) / 2."""
    return (1 + jnp.cos(jnp.pi * jnp.minimum(_float(step) / total, 1))) / 2


def cyclic(step: Step, total: int, *, period: Time = 0.25) -> Factor:
    """Rises linearly from 0 to 1 and falls again, each period: 1 - |2 phase - 1|."""
    phase = _float(jnp.asarray(step) % max(period, 1)) / max(period, 1)
    return 1 - jnp.abs(2 * phase - 1)


def exponential(step: Step, total: int, *, decay: int | float = 5.0) -> Factor:
    """Falls from 1 to exp(-decay) at the end: exp(-decay step / total).

    Raises:
        ValueError: a negative decay.
    """
    if decay < 0:
        raise ValueError(f"exponential(decay={decay}): expected at least 0.")
    return jnp.exp(-decay * _float(step) / total)


def curriculum(step: Step, total: int, *, gamma: int | float = 10.0) -> Factor:
    """Curriculum dropout: rises from 0 as 1 - exp(-gamma step / total).

    The paper's gamma is per step: it is gamma / total here. The paper keeps units with
    probability (1 - theta) exp(-gamma t) + theta, theta = 1 - rate (Morerio et al.
    2017, "Curriculum Dropout", ICCV, equation 3).

    Raises:
        ValueError: a negative gamma.
    """
    if gamma < 0:
        raise ValueError(f"curriculum(gamma={gamma}): expected at least 0.")
    return -jnp.expm1(-gamma * _float(step) / total)


def step(
    step: Step, total: int, *, every: Time = 0.25, by: int | float = 0.5
) -> Factor:
    """Is multiplied by `by` at each multiple of `every`: by^floor(step / every).

    Raises:
        ValueError: `by` outside [0, 1].
    """
    if not 0 <= by <= 1:
        raise ValueError(f"step(by={by}): expected a factor in [0, 1].")
    return jnp.power(np.float32(by), _float(jnp.asarray(step) // max(every, 1)))


def piecewise(
    step: Step,
    total: int,
    *,
    boundaries: tuple[Time, ...] = (0.5,),
    factors: tuple[int | float, ...] = (1.0, 0.0),
) -> Factor:
    """Takes `factors[k]` from the k-th boundary on, that step included.

    Raises:
        ValueError: the factors are not one more than the boundaries, a factor lies
            outside [0, 1], or the boundaries do not ascend.
    """
    if len(factors) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise: {len(factors)} factors for {len(boundaries)} boundaries; "
            "expected one factor more than boundaries."
        )
    if list(boundaries) != sorted(boundaries) or not all(
        0 <= factor <= 1 for factor in factors
    ):
        raise ValueError(
            f"piecewise(boundaries={boundaries}, factors={factors}): boundaries must "
            "ascend and factors lie in [0, 1]."
        )
    index = jnp.searchsorted(
        jnp.asarray(boundaries, jnp.int32), jnp.asarray(step, jnp.int32), side="right"
    )
    return jnp.asarray(factors, jnp.float32)[index]


def _float(value) -> Factor:
    return jnp.asarray(value).astype(jnp.float32)
