"""Every schedule lies in [0, 1]; each equals its formula written out with NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import SCHEDULES, Timeline, factor_at
from dropout.factors import cyclic
from dropout.grammar import Call, parse_call
from dropout.schedules import check_schedule

TOTAL = 40
TIMELINE = Timeline(TOTAL, 10)
STEPS = np.array([0, 1, 7, 8, 9, 19, 20, 21, 31, 32, 39, 40, 400])


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_lie_in_the_unit_interval_and_trace_once(name):
    traces = []

    @jax.jit
    def factor(step):
        traces.append(None)
        return factor_at(Call(name), step, TIMELINE)

    factors = np.array([factor(jnp.int32(step)) for step in range(TOTAL + 1)])
    assert factors.dtype == np.float32
    assert ((factors >= 0) & (factors <= 1)).all()
    assert len(traces) == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_traced_and_python_steps_agree(name):
    batched = jax.vmap(lambda step: factor_at(Call(name), step, TIMELINE))
    eager = [float(factor_at(Call(name), int(step), TIMELINE)) for step in STEPS]
    np.testing.assert_allclose(batched(jnp.asarray(STEPS)), eager, rtol=1e-6)


def ramp(start, end):
    return np.clip((STEPS - start) / (end - start), 0, 1)


ORACLE = {
    "constant": np.ones(len(STEPS)),
    "linear": ramp(0, 40),
    "linear(start=0.2, end=0.5)": ramp(8, 20),
    "linear(end=8, unit='steps')": ramp(0, 8),
    "decay": 1 - ramp(0, 40),
    "decay(start=0.5)": 1 - ramp(20, 40),
    "annealed(end=0.5)": 1 - ramp(0, 20),
    "dropblock_ramp": ramp(0, 40),
    "scheduled_drop_path(end=2, unit='epochs')": ramp(0, 20),
    "early(until=0.2)": STEPS < 8,
    "early(until=0.5, shape='linear')": np.maximum(0, 1 - STEPS / 20),
    "early(until=20, unit='steps')": STEPS < 20,
    "early(until=2, unit='epochs')": STEPS < 20,
    "late(start=0.2)": STEPS >= 8,
    "late(start=0.2, shape='linear')": ramp(8, 40),
    "cyclic(period=1, unit='epochs')": 1 - abs(2 * (STEPS % 10) / 10 - 1),
    "exponential(decay=3)": np.exp(-3 * STEPS / 40),
    "curriculum": 1 - np.exp(-10 * STEPS / 40),
    "curriculum(gamma=4)": 1 - np.exp(-0.1 * STEPS),
    "step(every=0.2, by=0.3)": 0.3 ** (STEPS // 8),
    "product(unit='run')": np.minimum(STEPS / 12, 1)
    * ((1 + np.cos(np.pi * np.minimum(STEPS / 40, 1))) / 2),
    "product(of=('linear(end=0.5)', \"early(until=32, unit='steps')\"))": (
        ramp(0, 20) * (STEPS < 32)
    ),
    "cosine": (1 + np.cos(np.pi * np.minimum(STEPS, 40) / 40)) / 2,
    "piecewise(boundaries=(0.2, 0.8), factors=(0.0, 1.0, 0.5))": np.select(
        [STEPS < 8, STEPS < 32], [0.0, 1.0], 0.5
    ),
}


@pytest.mark.parametrize("text", ORACLE)
def test_a_schedule_equals_its_formula(text):
    call = parse_call(text)
    check_schedule(call)
    factors = [float(factor_at(call, int(step), TIMELINE)) for step in STEPS]
    # 1 + cos(10 pi) comes from a float32 argument of 31.4.
    np.testing.assert_allclose(factors, ORACLE[text], atol=1e-5)


def test_every_schedule_has_a_formula_here():
    assert {parse_call(text).name for text in ORACLE} == set(SCHEDULES)


def test_cut_offs_are_whole_steps_whatever_the_length_of_the_run():
    for total in (3, 7, 10, 937, 99_999):
        timeline = Timeline(total, 10)
        for until in (0.1, 1 / 3, 0.2, 0.7):
            call = Call("early", (("until", until),))
            cut = round(until * total)
            steps = jnp.arange(max(cut - 2, 0), min(cut + 2, total))
            factors = jax.vmap(lambda s, c=call, t=timeline: factor_at(c, s, t))(steps)
            np.testing.assert_array_equal(factors, steps < cut)


def test_a_period_rises_from_0_and_falls_to_0():
    rates = [float(cyclic(step, 99, period=4)) for step in range(6)]
    assert rates == [0, 0.5, 1, 0.5, 0, 0.5]


def test_a_ramp_ends_at_its_start_or_after_it():
    """One that ends where it starts is a step; one that ends before it is an error."""
    check_schedule(parse_call("linear(start=0.5, end=0.5)"))
    with pytest.raises(ValueError, match="start that is no later than the end"):
        check_schedule(parse_call("linear(start=0.5, end=0.4)"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("product(of=('linar',))", "unknown schedule 'linar'; did you mean 'linear'"),
        ("product(of=('early(until=2)',))", "until=2"),
        ("product(of='linear')", "of='linear'"),
        ("step(by=1.5)", "by=1.5"),
        ("exponential(decay=-1)", "decay=-1"),
        ("curriculum(gamma=-1)", "gamma=-1"),
        ("early(shape='square')", "'constant', 'linear'"),
    ],
)
def test_what_schedules_refuse(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        check_schedule(parse_call(text))
