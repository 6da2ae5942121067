"""The data of a study's pictures, from its table and the records of its runs."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from dropout import Timeline, parse, resolve, scale_rates
from training.record.curves import all_rate_curves
from training.record.metrics_log import read_metrics
from training.record.rates import RateCurve


class ResponsePoint(NamedTuple):
    """An arm whose plan is one rule with one rate, as a point of a response curve.

    `family` is the rule without its rate.
    """

    family: str
    rate: float
    errors: Float[np.ndarray, " seeds"]


def plotted_arms(table: pl.DataFrame, most: int) -> list[str]:
    """Return the first arm and the best of the others, at most `most` in all."""
    arms = table["arm"].unique(maintain_order=True).to_list()
    means = dict(table.group_by("arm").agg(pl.col("test_error").mean()).iter_rows())
    best = sorted(arms[1:], key=lambda arm: means[arm])[: most - 1]
    return [arm for arm in arms if arm == arms[0] or arm in best]


def held_out_curves(
    rows: pl.DataFrame, directory: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return epochs, and the loss and error on held-out examples: (seeds, epochs)."""
    split = "validation" if rows["validation_examples"][0] else "test"
    found = [
        [line for line in read_metrics(directory / run) if line["split"] == split]
        for run in rows["run"]
    ]
    epochs = np.array([line["epoch"] for line in found[0]])
    losses = np.array([[line["loss"] for line in lines] for lines in found])
    errors = np.array([[1 - line["accuracy"] for line in lines] for lines in found])
    return epochs, losses, errors


def response_points(table: pl.DataFrame) -> list[ResponsePoint]:
    """Return the arms whose plan is one rule with one rate, or `none` (rate 0)."""
    points = []
    for (_, text), rows in table.group_by("arm", "dropout", maintain_order=True):
        errors = rows["test_error"].to_numpy()
        rules = parse(str(text)).rules
        if not rules:
            points.append(ResponsePoint("", 0.0, errors))
        elif len(rules) == 1 and isinstance(rate := rules[0].rate, float):
            (rule,) = rules
            family = f"{rule.sites}:{rule.variant}"
            if str(rule.schedule) != "constant":
                family += f"@{rule.schedule}"
            points.append(ResponsePoint(family, rate, errors))
    return points


def response_curve(points: list[ResponsePoint], family: str) -> list[ResponsePoint]:
    """Return the points of a family and the points without dropout, ordered by rate."""
    found = [point for point in points if point.family in (family, "")]
    return sorted(found, key=lambda point: point.rate)


def rates_over_run(rows: pl.DataFrame, directory: Path) -> list[RateCurve]:
    """Return the rates of an arm's first run: its schedules', and learned ones."""
    lines = read_metrics(directory / rows["run"][0])
    (train, *_) = [line for line in lines if line["split"] == "train"]
    sites = tuple(n.removeprefix("rate/") for n in train if n.startswith("rate/"))
    last = max(line["step"] for line in lines)
    # The sites that have a rate resolve as they did among all sites of the network.
    plan = resolve(parse(rows["dropout"][0]), sites)
    rows_of_plan = scale_rates(plan, rows["rate_factor"][0])
    timeline = Timeline(last, round(train["step"] / train["epoch"]))
    return all_rate_curves([rows_of_plan], timeline, lines)
