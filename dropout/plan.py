"""Plans as text: which variant acts where, at which rate, under which schedule.

--dropout='conv*:spatial:0.1 fc:bernoulli:0.5@early(until=0.2)'
"""

import functools
import re
from dataclasses import dataclass
from typing import get_args

from dropout.depths import DEPTHS, Span, parse_span
from dropout.grammar import (
    Call,
    check_options,
    lookup,
    parse_call,
    split_outside,
)
from dropout.names import published
from dropout.schedules import check_schedule
from dropout.variants import VARIANTS
from dropout.variants.entry import MaskUnit

CONSTANT = Call("constant")
HYPHENATED = re.compile(r"[A-Za-z]\w*(-\w+)+")


@dataclass(frozen=True)
class Rule:
    """One rule of a plan, as written."""

    sites: str
    variant: Call
    rate: float | Span | tuple[float, ...]
    schedule: Call = CONSTANT

    def __str__(self) -> str:
        text = f"{self.sites}:{self.variant}:{_rate_text(self.rate)}"
        return text if self.schedule == CONSTANT else f"{text}@{self.schedule}"


@dataclass(frozen=True)
class Plan:
    """Rules in order of priority; `str(plan)` is their canonical text."""

    rules: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        return " ".join(map(str, self.rules)) or "none"


@functools.cache
def parse(text: str, schedule: str = "constant") -> Plan:
    """Read a plan from its text; the same text is read once.

    Args:
        text: rules separated by spaces, or `none`.
        schedule: the schedule of the rules that name none.

    Raises:
        ValueError: the text does not follow the grammar, or names an unknown variant,
            option or schedule, or a rate outside the variant's domain.
    """
    default = parse_call(schedule)
    check_schedule(default)
    if text.strip() in ("", "none"):
        return Plan()
    spaced = split_outside(" ".join(text.split()), " ")
    return Plan(tuple(_parse_rule(rule, default) for rule in spaced))


def _parse_rule(text: str, default: Call) -> Rule:
    head, *schedules = split_outside(text, "@")
    parts = split_outside(head, ":")
    if len(parts) != 3 or len(schedules) > 1 or not all(parts):
        raise ValueError(
            f"cannot read rule {text!r}: expected sites:variant:rate or "
            "sites:variant:rate@schedule."
        )
    rule = Rule(
        parts[0],
        _parse_variant(parts[1]),
        _parse_rate(parts[2]),
        parse_call(schedules[0]) if schedules else default,
    )
    check_schedule(rule.schedule)
    check_variant(rule)
    return rule


def _parse_variant(text: str) -> Call:
    """Return a variant's call; a name with hyphens, as in papers, is accepted here."""
    return Call(text) if HYPHENATED.fullmatch(text) else parse_call(text)


def _parse_rate(text: str) -> float | Span | tuple[float, ...]:
    if ".." in text and "(" in text:
        # An unknown name says which names there are.
        lookup("range over depth", text.partition("(")[0], DEPTHS)
    try:
        if ".." in text:
            return parse_span(text)
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"rate {text!r}: expected a number, a range a..b, huang(a..b) or "
            "exponential(a..b), or a list a,b,c."
        ) from None
    return rates[0] if len(rates) == 1 else rates


def _rate_text(rate: float | Span | tuple[float, ...]) -> str:
    if isinstance(rate, Span):
        return str(rate)
    return ",".join(map(repr, rate)) if isinstance(rate, tuple) else repr(rate)


def _all_rates(rate: float | Span | tuple[float, ...]) -> tuple[float, ...]:
    """The rates that are written in a rule; for a range both ends."""
    if isinstance(rate, Span):
        return rate.first, rate.last
    return rate if isinstance(rate, tuple) else (rate,)


def check_variant(rule: Rule) -> None:
    """Raise ValueError for an unknown variant, option or unit, or an excluded rate."""
    known_as = published(rule.variant.name)
    if rule.variant.name not in VARIANTS and known_as:
        raise ValueError(f"unknown variant {rule.variant.name!r}: {known_as}.")
    entry = lookup("variant", rule.variant.name, VARIANTS)
    check_options("variant", rule.variant, entry.draw, reserved=("unit",))
    unit = unit_of(rule.variant, entry.unit)
    if unit not in get_args(MaskUnit):
        allowed = ", ".join(map(repr, get_args(MaskUnit)))
        raise ValueError(f"{entry.name}(unit={unit!r}): expected one of {allowed}.")
    if ("skip", True) in rule.variant.options and unit == "example":
        raise ValueError(
            f"{rule.variant}: expected unit='batch' or 'run' with skip=True, since a "
            "branch is skipped for all examples."
        )
    for rate in _all_rates(rule.rate):
        entry.check_rate(rate)


def unit_of(call: Call, default: str) -> str:
    """Return the unit that a call names, else the default."""
    options = dict(call.options)
    return options["unit"] if "unit" in options else default
