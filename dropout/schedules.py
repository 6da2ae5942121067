"""Factors in [0, 1] that multiply a rate over the steps of a run.

A schedule is `(step, total, **options) -> factor`: `step` may be traced and counts from
0, `total` is the number of steps in the run. An option annotated `Time` is a moment:
in flags a fraction of the run, or steps or epochs with `unit=...`; the function gets it
as whole steps, so that a cut-off is an integer comparison.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from dropout.grammar import Call, check_options, lookup, option_types

Time = Annotated[int | float, "a moment of the run"]
Unit = Literal["run", "steps", "epochs"]
Step = Integer[Array, ""] | int
Factor = Float[Array, ""]
LONGEST = 2**31 - 1


@dataclass(frozen=True)
class Timeline:
    """The length of a run: its steps, and the steps in one epoch."""

    total: int
    steps_per_epoch: int

    def steps(self, time: Time, unit: Unit) -> int:
        """A moment as whole steps, rounded once; at most the highest int32."""
        length = {"run": self.total, "steps": 1, "epochs": self.steps_per_epoch}
        return round(min(time * length[unit], LONGEST))


def constant(step: Step, total: int) -> Factor:
    """1 throughout."""
    return jnp.ones((), jnp.float32)


def linear(step: Step, total: int, *, start: Time = 0.0, end: Time = 1.0) -> Factor:
    """Rises from 0 at `start` to 1 at `end`: min(1, (step - start) / (end - start)).

    With the default options DropBlock's ramp (Ghiasi et al. 2018) and that of
    ScheduledDropPath (Zoph et al. 2018).
    """
    return jnp.clip(_float(step - start) / max(end - start, 1), 0, 1)


def decay(step: Step, total: int, *, start: Time = 0.0, end: Time = 1.0) -> Factor:
    """Falls from 1 at `start` to 0 at `end`: annealed dropout (Rennie et al. 2014)."""
    return 1 - linear(step, total, start=start, end=end)


def early(step: Step, total: int, *, until: Time = 0.5) -> Factor:
    """1 before step `until`, then 0: early dropout (Liu et al. 2023)."""
    return _float(jnp.asarray(step) < until)


def late(step: Step, total: int, *, start: Time = 0.5) -> Factor:
    """0 before step `start`, then 1: late dropout (Liu et al. 2023)."""
    return _float(jnp.asarray(step) >= start)


def cosine(step: Step, total: int) -> Factor:
    """Falls from 1 to 0 along half a cosine: (1 + cos(pi step / total)) / 2."""
    return (1 + jnp.cos(jnp.pi * _float(step) / total)) / 2


def piecewise(
    step: Step,
    total: int,
    *,
    boundaries: tuple[Time, ...] = (0.5,),
    factors: tuple[int | float, ...] = (1.0, 0.0),
) -> Factor:
    """`factors[k]` from the k-th boundary on; a boundary step takes the new value.

    Raises:
        ValueError: not one factor more than boundaries, a factor outside [0, 1], or
            boundaries that are not ascending.
    """
    if len(factors) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise: {len(factors)} factors for {len(boundaries)} boundaries; "
            "expected one factor more than boundaries."
        )
    if list(boundaries) != sorted(boundaries) or not all(0 <= f <= 1 for f in factors):
        raise ValueError(
            f"piecewise(boundaries={boundaries}, factors={factors}): boundaries must "
            "ascend and factors lie in [0, 1]."
        )
    index = jnp.searchsorted(
        jnp.asarray(boundaries, jnp.int32), jnp.asarray(step, jnp.int32), side="right"
    )
    return jnp.asarray(factors, jnp.float32)[index]


SCHEDULES: dict[str, Callable[..., Factor]] = {
    function.__name__: function
    for function in (constant, linear, decay, early, late, cosine, piecewise)
}


def check_schedule(call: Call) -> None:
    """Raises ValueError for an unknown schedule, option or value."""
    function = lookup("schedule", call.name, SCHEDULES)
    times = _times(function)
    check_options("schedule", call, function, reserved=("unit",))
    plain = tuple(item for item in call.options if item[0] != "unit")
    unit = dict(call.options)["unit"] if len(plain) < len(call.options) else "run"
    if unit not in get_args(Unit) or (unit != "run" and not times):
        allowed = ", ".join(map(repr, get_args(Unit) if times else ("run",)))
        raise ValueError(f"{call.name}(unit={unit!r}): expected one of {allowed}.")
    for name, value in plain:
        _check_time(call.name, name, value, unit, name in times)
    # Abstractly: a flag is read before JAX starts its devices, which flags choose.
    jax.eval_shape(lambda: factor_at(call, 0, Timeline(1000, 100)))


def factor_at(call: Call, step: Step, timeline: Timeline) -> Factor:
    """The factor of a schedule, as a float32 scalar, at a step that may be traced."""
    function = SCHEDULES[call.name]
    options = dict(call.options)
    unit = options.pop("unit") if "unit" in options else "run"
    defaults = inspect.signature(function).parameters
    for name in _times(function):
        # A default is a fraction of the run, whatever unit the given options are in.
        options[name] = (
            _whole_steps(options[name], unit, timeline)
            if name in options
            else _whole_steps(defaults[name].default, "run", timeline)
        )
    return function(step, timeline.total, **options)


def _whole_steps(
    time: Time | tuple[Time, ...], unit: Unit, timeline: Timeline
) -> int | tuple[int, ...]:
    if isinstance(time, tuple):
        return tuple(timeline.steps(item, unit) for item in time)
    return timeline.steps(time, unit)


def _times(function: Callable[..., Factor]) -> tuple[str, ...]:
    kinds = option_types(function)
    return tuple(n for n, kind in kinds.items() if kind in (Time, tuple[Time, ...]))


def _check_time(schedule: str, name: str, value, unit: Unit, is_time: bool) -> None:
    allowed = "[0, 1]" if unit == "run" else "[0, inf)"
    for time in value if isinstance(value, tuple) else (value,):
        if is_time and not (0 <= time <= 1 or unit != "run" and 1 < time < math.inf):
            raise ValueError(
                f"{schedule}({name}={time!r}, unit={unit!r}): expected a time in "
                f"{allowed}."
            )


def _float(value) -> Factor:
    return jnp.asarray(value).astype(jnp.float32)
