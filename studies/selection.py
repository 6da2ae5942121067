"""The choice of the best point of each family of a sweep, on held-out examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from studies.arms import Arm, Trial
from studies.families import Family, arm_of
from studies.outcomes import outcome
from studies.space import Sample, at_border
from studies.statistics import Estimate, interval
from studies.verdicts import estimate
from training.config import Config
from training.record.files import replacing

POINTS = "tuning.parquet"  # The table of all points; CSV beside it.


class Point(NamedTuple):
    """A point of a family, with the loss on held-out examples over the seeds."""

    family: Family
    sample: Sample
    arm: Arm
    loss: Estimate


def scored(
    found: Sequence[Family],
    samples: dict[str, list[Sample]],
    base: Config,
    trials: Sequence[Trial],
    directory: Path,
) -> list[Point]:
    """Return all points of a sweep whose runs are finished, family by family."""
    by_arm: dict[str, list[Trial]] = {}
    for trial in trials:
        by_arm.setdefault(trial.arm, []).append(trial)
    points = []
    for family in found:
        for sample in samples[family.plan]:
            arm = arm_of(family, base, sample)
            loss = validation_loss(by_arm[arm.name], directory)
            points.append(Point(family, sample, arm, loss))
    return points


def validation_loss(trials: Sequence[Trial], directory: Path) -> Estimate:
    """Return the mean loss of an arm on the held-out examples, over its seeds."""
    rows = [outcome(trial, directory, 0.0) for trial in trials]
    return interval(pl.Series([row["validation_loss"] for row in rows]).to_numpy())


def winners(points: Sequence[Point]) -> list[Point]:
    """Return the point of lowest loss of each family, in the families' order."""
    best: dict[str, Point] = {}
    for point in points:
        plan = point.family.plan
        if plan not in best or point.loss.mean < best[plan].loss.mean:
            best[plan] = point
    return list(best.values())


def tuning_table(points: Sequence[Point]) -> pl.DataFrame:
    """Return a row for each point: its loss, and whether it is chosen."""
    chosen = {point.arm.name for point in winners(points)}
    names = dict.fromkeys(name for point in points for name in point.sample)
    return pl.DataFrame(
        [
            {
                "family": point.family.plan,
                "arm": point.arm.name,
                **{n: point.sample[n] if n in point.sample else None for n in names},
                "validation_loss": point.loss.mean,
                "chosen": point.arm.name in chosen,
            }
            for point in points
        ],
        infer_schema_length=None,
    )


def write_tuning(points: Sequence[Point], directory: Path) -> None:
    """Write the table of all points, as parquet and as CSV."""
    table = tuning_table(points)
    path = directory / POINTS
    with replacing(path) as temporary:
        table.write_parquet(temporary)
    with replacing(path.with_suffix(".csv")) as temporary:
        table.write_csv(temporary)


def choice_lines(points: Sequence[Point], seeds: int) -> list[str]:
    """Return what was tried and chosen, family by family, with warnings of borders."""
    lines = [f"Chosen by the loss on held-out examples, mean of {seeds} seeds:"]
    best = winners(points)
    for point in best:
        tried = sum(other.family.plan == point.family.plan for other in points)
        loss = estimate(point.loss, 4, "")
        lines.append(f"{point.arm.name}: {loss}, the best of {tried} points")
        lines += [
            f"Warning: {name}={point.sample[name]} lies on the border of its range "
            f"in {point.family.plan!r}; a wider --space may hold a better one."
            for name in point.sample
            if at_border(point.family.space[name], point.sample[name])
        ]
    winner = min(best, key=lambda point: point.loss.mean)
    return [*lines, f"The winner on held-out examples is {winner.arm.name}."]
