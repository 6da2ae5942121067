"""Plans from random text and from random parts: one line of complaint, or a round trip.

Hypothesis draws the same examples in every run.
"""

import math
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropout import VARIANTS, parse, resolve
from dropout.grammar import option_types, parse_call
from dropout.schedules import SCHEDULES

FUZZ = settings(max_examples=400, deadline=None, database=None, derandomize=True)
SITES = ("input", "conv1/kernel", "conv1", "pool1/window", "block1/branch", "fc")

FRAGMENTS = (
    *VARIANTS, *SCHEDULES, *SITES, "unit='batch'", "until=0.2", "unit='steps'", "none",
    "0.5", "0.0..0.3", "0.1,0.2", "1e999", "nan", "-1", "conv*", "[", "]", "{", "}",
    "(", ")", "((((", ":", "::", "@", "@@", " ", "\n", "..", ",", "=", "*", "/", "'",
    '"', "\\", "\0", "lambda: 0", "__import__('os')", "{[]: 0}", "-" * 3000, "[" * 3000,
    "9" * 5000, "é", "\ud800", "٠.٥", "#", "%s", "{0}",
)  # fmt: skip
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
texts = st.one_of(fragments, st.text(max_size=40))


def values(kind: Any) -> st.SearchStrategy:
    """Values of an option's type, sensible ones and others."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=3).map(tuple)
    numbers = st.one_of(st.floats(0, 1), st.integers(0, 9), st.floats(), st.integers())
    return st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=3))


def calls(registry: dict, units: tuple[str, ...]) -> st.SearchStrategy[str]:
    """The text of a call of an entry, with some of its options."""

    def call(name: str) -> st.SearchStrategy[str]:
        entry = registry[name]
        types = option_types(getattr(entry, "draw", entry))
        options = {option: values(kind) for option, kind in types.items()}
        options["unit"] = st.sampled_from(units)
        chosen = st.fixed_dictionaries({}, optional=options)
        return chosen.map(lambda found: name + _arguments(found))

    return st.sampled_from(sorted(registry)).flatmap(call)


def _arguments(options: dict[str, Any]) -> str:
    return "(" + ", ".join(f"{k}={v!r}" for k, v in options.items()) + ")"


rates = st.lists(st.floats(0, 1.2).map(repr), min_size=1, max_size=3)
rules = st.tuples(
    st.sampled_from([*SITES, "*", "*/*", "conv[12]", "nowhere"]),
    calls(VARIANTS, ("example", "batch", "row")),
    st.one_of(rates.map(",".join), rates.map("..".join)),
    st.one_of(
        st.just(""),
        calls(SCHEDULES, ("run", "steps", "epochs", "days")).map("@{}".format),
    ),
).map(lambda parts: ":".join(parts[:3]) + parts[3])
plans = st.lists(rules, max_size=3).map(" ".join)


def check(function, *arguments):
    """The result, or None for a ValueError, which has to be of one line."""
    try:
        return function(*arguments)
    except ValueError as error:
        assert str(error) and len(str(error).splitlines()) == 1
        return None


@pytest.mark.slow
@FUZZ
@given(st.one_of(texts, plans))
def test_a_plan_is_refused_in_one_line_or_its_text_reads_back(text):
    plan = check(parse, text)
    if plan is not None:
        assert parse(str(plan)) == plan
        assert str(parse(str(plan))) == str(plan)
        rows = check(resolve, plan, SITES)
        assert rows is None or all(math.isfinite(row.rate) for row in rows)


@FUZZ
@given(texts, st.sampled_from(["constant", "early(until=3, unit='epochs')"]))
def test_a_call_is_refused_in_one_line_or_its_text_reads_back(text, schedule):
    call = check(parse_call, text)
    assert call is None or parse_call(str(call)) == call
    check(parse, "fc:bernoulli:0.5", text)
    check(parse, text, schedule)


@pytest.mark.slow
@FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["conv*", "fc", "b*/branch"]),
            st.sampled_from(["bernoulli(unit='batch')", "gaussian", "bernoulli"]),
            st.floats(0, 1, exclude_max=True),
            st.sampled_from(["", "@linear", "@early(until=0.2)"]),
        ),
        min_size=1,
        unique_by=lambda rule: rule[0],
    )
)
def test_every_well_formed_plan_is_read_as_written(parts):
    plan = parse(" ".join(f"{s}:{v}:{r!r}{schedule}" for s, v, r, schedule in parts))
    assert parse(str(plan)) == plan
    found = [
        (
            rule.sites,
            str(rule.variant),
            rule.rate,
            "" if str(rule.schedule) == "constant" else f"@{rule.schedule}",
        )
        for rule in plan.rules
    ]
    assert found == parts
