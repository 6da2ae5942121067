"""Factors in [0, 1] that multiply a rate over the steps of a run.

A schedule is `(step, total, **options) -> factor`: `step` may be traced and counts from
0, `total` is the number of steps in the run. An option annotated `Time` is a time in
the run: in flags a fraction of it, or steps or epochs with `unit=...`. The function
gets it as whole steps, so that a cut-off is an integer comparison.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dropout.grammar import Call, check_options, lookup, option_types, parse_call

Time = Annotated[int | float, "a time in the run"]
TimeUnit = Literal["run", "steps", "epochs"]
Step = Integer[Array, ""] | int
Factor = Float[Array, ""]
LONGEST = 2**31 - 1


@dataclass(frozen=True)
class Timeline:
    """The length of a run: all of its steps, and the steps in one epoch."""

    total: int
    steps_per_epoch: int

    def steps(self, time: Time, unit: TimeUnit) -> int:
        """Return a time as whole steps, rounded once; at most the highest int32."""
        length = {"run": self.total, "steps": 1, "epochs": self.steps_per_epoch}
        return round(min(time * length[unit], LONGEST))


def constant(step: Step, total: int) -> Factor:
    """Stays at 1."""
    return jnp.ones((), jnp.float32)


def linear(step: Step, total: int, *, start: Time = 0.0, end: Time = 1.0) -> Factor:
    """Rises from 0 at `start` to 1 at `end`: min(1, (step - start) / (end - start)).

    With the default options it is the ramp of DropBlock (Ghiasi et al. 2018), with
    `end` at the burn-in the ramp of ScheduledDropPath (Zoph et al. 2018). It is also
    registered under both names.
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


def product(
    step: Step, total: int, *, of: tuple[str, ...] = ("linear(end=0.3)", "cosine")
) -> Factor:
    """Multiplies schedules, each written as in a rule."""
    return _product(of, step, Timeline(total, total))


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


FUNCTIONS = (
    constant, linear, decay, early, late, cosine, cyclic, exponential, curriculum,
    step, piecewise, product,
)  # fmt: skip
SCHEDULES: dict[str, Callable[..., Factor]] = {
    **{function.__name__: function for function in FUNCTIONS},
    # The names under which some of these were published.
    "annealed": decay,
    "dropblock_ramp": linear,
    "scheduled_drop_path": linear,
}


def check_schedule(call: Call) -> None:
    """Check a schedule's name, options and values; raise ValueError if one is wrong."""
    function = lookup("schedule", call.name, SCHEDULES)
    times = _times(function)
    check_options("schedule", call, function, reserved=("unit",))
    plain = tuple(item for item in call.options if item[0] != "unit")
    unit = dict(call.options)["unit"] if len(plain) < len(call.options) else "run"
    if unit not in get_args(TimeUnit) or (unit != "run" and not times):
        allowed = ", ".join(map(repr, get_args(TimeUnit) if times else ("run",)))
        raise ValueError(f"{call.name}(unit={unit!r}): expected one of {allowed}.")
    if function is product:
        for text in dict(plain)["of"] if plain else ():
            check_schedule(parse_call(text))
    for name, value in plain:
        _check_time(call.name, name, value, unit, name in times)
    _check_order(call)
    # Abstractly: a flag is read before JAX starts its devices, which flags choose.
    jax.eval_shape(lambda: factor_at(call, 0, Timeline(1000, 100)))


def factor_at(call: Call, step: Step, timeline: Timeline) -> Factor:
    """Return the factor of a schedule, a float32 scalar, at a step, maybe traced."""
    function = SCHEDULES[call.name]
    options = dict(call.options)
    if function is product and options:
        return _product(options["of"], step, timeline)
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


def _product(texts: tuple[str, ...], step: Step, timeline: Timeline) -> Factor:
    factors = (factor_at(parse_call(text), step, timeline) for text in texts)
    return functools.reduce(jnp.multiply, factors, constant(step, timeline.total))


def _whole_steps(
    time: Time | tuple[Time, ...], unit: TimeUnit, timeline: Timeline
) -> int | tuple[int, ...]:
    if isinstance(time, tuple):
        return tuple(timeline.steps(item, unit) for item in time)
    return timeline.steps(time, unit)


def _times(function: Callable[..., Factor]) -> tuple[str, ...]:
    kinds = option_types(function)
    return tuple(
        name for name, kind in kinds.items() if kind in (Time, tuple[Time, ...])
    )


def _check_time(schedule: str, name: str, value, unit: TimeUnit, is_time: bool) -> None:
    allowed = "[0, 1]" if unit == "run" else "[0, inf)"
    for time in value if isinstance(value, tuple) else (value,):
        if is_time and not (0 <= time <= 1 or unit != "run" and 1 < time < math.inf):
            raise ValueError(
                f"{schedule}({name}={time!r}, unit={unit!r}): expected a time in "
                f"{allowed}."
            )


def _check_order(call: Call) -> None:
    options = dict(call.options)
    if {"start", "end"} <= options.keys() and options["start"] > options["end"]:
        raise ValueError(f"{call}: expected a start that is no later than the end.")


def _float(value) -> Factor:
    return jnp.asarray(value).astype(jnp.float32)
