"""Families of a sweep: arms that are tuned alike, each over a space of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from studies.arms import Arm, changed
from studies.space import Choices, Range, Sample, Space, fill, is_number, sample_points
from training.canonical import canonical
from training.config import Config


@dataclass(frozen=True, eq=False)
class Family:
    """A plan to tune, which may hold {names} of its space; other names are flags."""

    plan: str
    space: Space


def families(template: str, space: Space, baseline: str) -> list[Family]:
    """Return what is tuned alike: the baseline, and the plans that a template makes.

    Names that are not in the template are flags, which are tuned for every family, the
    baseline included. Of the names in the template, each combination of texts, as
    sites and variants, is a family, and numbers are tuned within it.

    Raises:
        ValueError: the template has a name that the space does not have.
    """
    named = {name: space[name] for name in space if f"{{{name}}}" in template}
    kinds = {n: _texts(d) for n, d in named.items() if _texts(d)}
    tuned = {n: d for n, d in space.items() if n not in kinds}
    flags = {n: d for n, d in space.items() if n not in named}
    _check_names(template, space)
    found = [Family(baseline, flags)]
    for values in product(*kinds.values()):
        plan = template
        for name, value in zip(kinds, values):
            plan = plan.replace(f"{{{name}}}", value)
        found.append(Family(plan, tuned))
    return list({family.plan: family for family in found}.values())


def _texts(dimension: Choices | Range) -> tuple[str, ...]:
    """Return the texts of a dimension; none if it is one of numbers."""
    if isinstance(dimension, Range) or all(map(is_number, dimension.values)):
        return ()
    return dimension.values


def _check_names(template: str, space: Space) -> None:
    fill(template, {name: "" for name in space})


def points_of(family: Family, sampler: str, count: int, seed: int) -> list[Sample]:
    """Return the points at which a family is tried; one if its space is empty."""
    if not family.space:
        return [{}]
    return sample_points(sampler, family.space, count, seed)


def arm_of(family: Family, base: Config, sample: Sample) -> Arm:
    """Return the arm of a point: its plan and its flags."""
    plan, values = fill(family.plan, sample)
    name = " ".join([plan, *(f"--{flag}={value}" for flag, value in values.items())])
    config = canonical(changed(base, {"dropout": plan, **values}))
    return Arm(name, replace(config, workdir=""))


def arms_of(
    base: Config, samples: dict[str, list[Sample]], found: list[Family]
) -> Iterator[Arm]:
    """Yield the arms of the points of all families, by the plans of these."""
    for family in found:
        yield from (arm_of(family, base, sample) for sample in samples[family.plan])
