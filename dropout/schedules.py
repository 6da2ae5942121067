"""Schedules: the registry, and the factor of a schedule at a step of a run.

Their functions are in `dropout.factors`.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from dropout.factors import (
    Factor,
    Step,
    Time,
    constant,
    cosine,
    curriculum,
    cyclic,
    decay,
    early,
    exponential,
    late,
    linear,
    piecewise,
    step,
)
from dropout.grammar import Call, check_options, lookup, option_types, parse_call

TimeUnit = Literal["run", "steps", "epochs"]
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


def product(
    step: Step, total: int, *, of: tuple[str, ...] = ("linear(end=0.3)", "cosine")
) -> Factor:
    """Multiplies schedules, each written as in a rule."""
    return _product(of, step, Timeline(total, total))


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
    """Return the factor of a schedule, a float32 scalar; the step may be traced."""
    function = SCHEDULES[call.name]
    options = dict(call.options)
    unit = options.pop("unit") if "unit" in options else "run"
    if function is product and options:
        return _product(options["of"], step, timeline)
    defaults = inspect.signature(function).parameters
    for name in _times(function):
        # A default is a fraction of the run, whatever unit the given options are in.
        options[name] = (
            _whole_steps(options[name], unit, timeline)
            if name in options
            else _whole_steps(defaults[name].default, "run", timeline)
        )
    # A schedule of a user's own may return a Python number.
    return jnp.asarray(function(step, timeline.total, **options), jnp.float32)


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
