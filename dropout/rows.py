"""Rows: what a plan makes of the sites of a model, and their rates at a step."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from jaxtyping import Array, Float

from dropout.arrays import Rate
from dropout.depths import Span, rates_of
from dropout.grammar import Call, suggest
from dropout.keys import name_hash
from dropout.kinds import kind_of
from dropout.plan import Plan, Rule, check_variant, unit_of
from dropout.schedules import Step, Timeline, factor_at
from dropout.variants import VARIANTS


class Row(NamedTuple):
    """What a plan makes of one site: a line of the resolved table."""

    site: str
    variant: Call
    unit: str
    rate: float | Float[Array, ""]
    schedule: Call


class Rows(tuple[Row, ...]):
    """The resolved table: the rows in the model's order, and all sites of the model.

    Attributes:
        sites: the names that the model may call `drop` with.
    """

    sites: tuple[str, ...]

    def __new__(cls, rows: Iterable[Row], sites: tuple[str, ...]) -> "Rows":
        """Return a tuple of rows that also knows the sites without a row."""
        made = super().__new__(cls, rows)
        made.sites = sites
        return made


def resolve(plan: Plan, sites: tuple[str, ...]) -> Rows:
    """Return the plan's rows at a model's sites, in the model's order.

    Raises:
        ValueError: a rule that wins no site, a variant at a kind of site where it
            cannot act, a list with more or fewer rates than sites, a rate outside the
            variant's domain, or two sites that would share their masks.
    """
    check_distinct(sites)
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
    return Rows((rows[site] for site in sites if site in rows), sites)


def with_rates(
    rows: tuple[Row, ...], rates: Sequence[Rate] | Float[Array, " rows"]
) -> tuple[Row, ...]:
    """Return the rows with other rates, one for each row."""
    changed = tuple(row._replace(rate=rates[i]) for i, row in enumerate(rows))
    return Rows(changed, rows.sites) if isinstance(rows, Rows) else changed


def scale_rates(rows: tuple[Row, ...], factor: float) -> tuple[Row, ...]:
    """Return the rows with their rates multiplied by a factor.

    Raises:
        ValueError: a rate that is then outside its variant's domain.
    """
    scaled = with_rates(rows, [row.rate * factor for row in rows])
    check_rates(scaled)
    return scaled


def rows_at(rows: tuple[Row, ...], step: Step, timeline: Timeline) -> tuple[Row, ...]:
    """Return the rows with their rates at a step, which may be traced.

    The schedule of a learned variant weighs its regulariser, and not its rate.
    """
    return with_rates(rows, [_rate_at(row, step, timeline) for row in rows])


def check_rates(rows: Iterable[Row]) -> None:
    """Raise ValueError for a row whose concrete rate its variant does not take."""
    for row in rows:
        VARIANTS[row.variant.name].check_rate(row.rate)


def check_distinct(sites: Iterable[str]) -> None:
    """Raise ValueError for two sites whose names have the same hash, as masks would."""
    by_hash: dict[int, str] = {}
    for site in sites:
        other = by_hash.setdefault(name_hash(site), site)
        if other != site:
            raise ValueError(
                f"sites {other!r} and {site!r} have the same hash and would share "
                "their masks; expected another name for one of them."
            )


def _rate_at(row: Row, step: Step, timeline: Timeline) -> Rate:
    if VARIANTS[row.variant.name].learned:
        return row.rate
    return row.rate * factor_at(row.schedule, step, timeline)


def matches(pattern: str, site: str) -> bool:
    """Return whether a pattern matches a site, segment by segment.

    A non-linearity is matched by its name `act` alone, and not by a wildcard. So
    `block*/*` means the activations, before each of which there is a non-linearity.
    """
    parts, segments = pattern.split("/"), site.split("/")
    if kind_of(site) == "act" and parts[-1] != segments[-1]:
        return False
    return len(parts) == len(segments) and all(map(fnmatchcase, segments, parts))


def _check_rule(rule: Rule, won: list[str], sites: tuple[str, ...]) -> None:
    check_variant(rule)
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


def _first_match(plan: Plan, site: str) -> Rule | None:
    return next((rule for rule in plan.rules if matches(rule.sites, site)), None)


def _rates_over(rule: Rule, count: int) -> tuple[float, ...]:
    if not isinstance(rule.rate, tuple):
        return (rule.rate,) * count
    return rates_of(rule.rate, count) if isinstance(rule.rate, Span) else rule.rate


def _row(rule: Rule, site: str, rate: float) -> Row:
    entry = VARIANTS[rule.variant.name]
    copies = kind_of(site) == "kernel" and entry.kernel_form == "copies"
    unit = unit_of(rule.variant, "batch" if copies else entry.unit)
    return Row(site, _without_unit(rule.variant), unit, rate, rule.schedule)


def _without_unit(call: Call) -> Call:
    return Call(call.name, tuple(item for item in call.options if item[0] != "unit"))
