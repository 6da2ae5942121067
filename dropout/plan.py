"""Plans: which variant acts at which site, at which rate, under which schedule.

--dropout='conv*:spatial:0.1 fc:bernoulli:0.5@early(until=0.2)'
"""

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple, get_args

from jaxtyping import Array, Float

from dropout.grammar import (
    Call,
    check_options,
    lookup,
    parse_call,
    split_outside,
    suggest,
)
from dropout.kinds import kind_of
from dropout.schedules import Step, Timeline, check_schedule, factor_at
from dropout.variants import VARIANTS
from dropout.variants.entry import MaskUnit

CONSTANT = Call("constant")


class Span(NamedTuple):
    """A range of rates: from `first` at the first site to `last` at the last."""

    first: float
    last: float


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


class Row(NamedTuple):
    """What a plan makes of one site: a line of the resolved table."""

    site: str
    variant: Call
    unit: str
    rate: float | Float[Array, ""]
    schedule: Call


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


def resolve(plan: Plan, sites: tuple[str, ...]) -> tuple[Row, ...]:
    """Return the plan's rows at a model's sites, in the model's order.

    Raises:
        ValueError: a rule that wins no site, a variant at a kind of site where it
            cannot act, or a list with more or fewer rates than sites.
    """
    winners = {site: _first_match(plan, site) for site in sites}
    won = {
        rule: [site for site in sites if winners[site] is rule] for rule in plan.rules
    }
    for rule in plan.rules:
        _check_rule(rule, won[rule], sites)
    rows = {
        site: _row(rule, site, rate)
        for rule in plan.rules
        for site, rate in zip(won[rule], _rates_over(rule, len(won[rule])), strict=True)
    }
    return tuple(rows[site] for site in sites if site in rows)


def scale_rates(rows: tuple[Row, ...], factor: float) -> tuple[Row, ...]:
    """Return the rows with their rates multiplied by a factor.

    Raises:
        ValueError: a rate that is then outside its variant's domain.
    """
    scaled = tuple(row._replace(rate=row.rate * factor) for row in rows)
    for row in scaled:
        VARIANTS[row.variant.name].check_rate(row.rate)
    return scaled


def rows_at(rows: tuple[Row, ...], step: Step, timeline: Timeline) -> tuple[Row, ...]:
    """Return the rows with their rates at a step, which may be traced."""
    return tuple(
        row._replace(rate=row.rate * factor_at(row.schedule, step, timeline))
        for row in rows
    )


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
        parse_call(parts[1]),
        _parse_rate(parts[2]),
        parse_call(schedules[0]) if schedules else default,
    )
    check_schedule(rule.schedule)
    _check_variant(rule)
    return rule


def _parse_rate(text: str) -> float | Span | tuple[float, ...]:
    try:
        if ".." in text:
            first, last = text.split("..", 1)
            return Span(float(first), float(last))
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"rate {text!r}: expected a number, a range a..b or a list a,b,c."
        ) from None
    return rates[0] if len(rates) == 1 else rates


def _rate_text(rate: float | Span | tuple[float, ...]) -> str:
    if not isinstance(rate, tuple):
        return repr(rate)
    return ("..".join if isinstance(rate, Span) else ",".join)(map(repr, rate))


def _check_variant(rule: Rule) -> None:
    entry = lookup("variant", rule.variant.name, VARIANTS)
    check_options("variant", rule.variant, entry.draw, reserved=("unit",))
    unit = _unit(rule.variant, entry.unit)
    if unit not in get_args(MaskUnit):
        allowed = ", ".join(map(repr, get_args(MaskUnit)))
        raise ValueError(f"{entry.name}(unit={unit!r}): expected one of {allowed}.")
    for rate in rule.rate if isinstance(rule.rate, tuple) else (rule.rate,):
        entry.check_rate(rate)


def _check_rule(rule: Rule, won: list[str], sites: tuple[str, ...]) -> None:
    if not any(matches(rule.sites, site) for site in sites):
        raise ValueError(f"no site matches {rule.sites!r}{suggest(rule.sites, sites)}.")
    if not won:
        raise ValueError(
            f"rule {str(rule)!r} wins no site: earlier rules take all that it matches."
        )
    kinds = VARIANTS[rule.variant.name].kinds
    for site in won:
        if kind_of(site) not in kinds:
            raise ValueError(
                f"{rule.variant.name} cannot act at {site!r}, a site of kind "
                f"{kind_of(site)}; it acts at: {', '.join(kinds)}."
            )
    if isinstance(rule.rate, tuple) and not isinstance(rule.rate, Span):
        if len(rule.rate) != len(won):
            raise ValueError(
                f"rule {str(rule)!r} lists {len(rule.rate)} rates for {len(won)} "
                f"sites: {', '.join(won)}."
            )


def matches(pattern: str, site: str) -> bool:
    """Return whether a pattern matches a site, segment by segment."""
    parts, segments = pattern.split("/"), site.split("/")
    return len(parts) == len(segments) and all(map(fnmatchcase, segments, parts))


def _first_match(plan: Plan, site: str) -> Rule | None:
    return next((rule for rule in plan.rules if matches(rule.sites, site)), None)


def _rates_over(rule: Rule, count: int) -> tuple[float, ...]:
    if not isinstance(rule.rate, tuple):
        return (rule.rate,) * count
    if not isinstance(rule.rate, Span):
        return rule.rate
    first, last = rule.rate
    if count == 1:
        return (last,)
    return tuple(first + (last - first) * index / (count - 1) for index in range(count))


def _row(rule: Rule, site: str, rate: float) -> Row:
    entry = VARIANTS[rule.variant.name]
    copies = kind_of(site) == "kernel" and entry.kernel_form == "copies"
    unit = _unit(rule.variant, "batch" if copies else entry.unit)
    return Row(site, _without_unit(rule.variant), unit, rate, rule.schedule)


def _unit(call: Call, default: str) -> str:
    options = dict(call.options)
    return options["unit"] if "unit" in options else default


def _without_unit(call: Call) -> Call:
    return Call(call.name, tuple(item for item in call.options if item[0] != "unit"))
