"""Pictures of the final comparison: differences with intervals, errors over flags."""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.comparison import TableLine
from studies.outcomes import SETTINGS
from studies.statistics import interval
from studies.verdicts import LEVEL
from training.members import OWN_SEEDS
from training.record.pictures import COLUMN, PALETTE, as_label

SEEDS = ("seed", *OWN_SEEDS)
LOGARITHMIC = 20  # A flag whose largest value is that often its smallest.
MOST_TICKS = 9
SURE, UNSURE = PALETTE[0], "#777777"


class Curve(NamedTuple):
    """Arms that differ in one flag: what else they are, its values and their errors."""

    label: str
    values: list[float]
    errors: list[Float[np.ndarray, " seeds"]]


def plot_differences(lines: list[TableLine]) -> Figure | None:
    """Plot each arm's difference in test error with its 95 % interval, as a row.

    The band is the margin within which errors count as equal; a filled point is a
    difference with p < 0.05 after correction.
    """
    tested = [x for x in lines if x.test and x.quantity.column == "test_error"]
    if not tested:
        return None
    height = 0.7 + 0.3 * len(tested)
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    axes = figure.subplots()
    margin = tested[0].margin
    axes.axvspan(-margin, margin, color="#E0E0E0", linewidth=0)
    axes.axvline(0, color="black", linewidth=0.8)
    for row, line in enumerate(tested):
        _plot_difference(axes, row, line)
    references = {line.versus for line in tested}
    names = [
        line.arm if len(references) == 1 else f"{line.arm}, against {line.versus}"
        for line in tested
    ]
    axes.set_yticks(range(len(tested)), [_shortened(name) for name in names])
    axes.set(ylim=(len(tested) - 0.5, -0.5))
    other = f"\nagainst {tested[0].versus}" if len(references) == 1 else ""
    figure.supxlabel(as_label(f"difference in test error, points{other}"))
    return figure


def _plot_difference(axes: Axes, row: int, line: TableLine) -> None:
    assert line.test and line.corrected is not None
    mean, low, high = line.test.difference
    sure = line.corrected < LEVEL
    colour = SURE if sure else UNSURE
    if np.isfinite(high):
        axes.plot((low, high), (row, row), color=colour, solid_capstyle="butt")
    face = colour if sure else "white"
    axes.plot(mean, row, "o", color=colour, markerfacecolor=face)


def _shortened(name: str, most: int = 26) -> str:
    """Return a name in at most two lines of a column's width, its end kept."""
    if len(name) <= most:
        return as_label(name)
    cut = name.rfind(" ", 0, most) if " " in name[:most] else most
    rest = name[cut:].strip()
    shown = rest if len(rest) <= most else f"... {rest[-most:]}"
    return as_label(f"{name[:cut]}\n{shown}")


def numeric_flags(table: pl.DataFrame) -> list[str]:
    """Return the flags of numbers in which the arms of a study differ, but seeds."""
    return [
        name
        for name in SETTINGS
        if name in table.columns
        and name not in SEEDS
        and table[name].dtype.is_numeric()
        and table[name].n_unique() > 1
    ]


def flag_curves(table: pl.DataFrame, flag: str) -> list[Curve]:
    """Return the arms as curves over a flag; the arms of one agree in all others."""
    names = [n for n in SETTINGS if n in table.columns and n not in (*SEEDS, flag)]
    others = [n for n in names if table[n].n_unique() > 1]
    groups = table.group_by(others, maintain_order=True) if others else [((), table)]
    curves = []
    for values, rows in groups:
        points = rows.sort(flag).group_by(flag, maintain_order=True)
        found = [(at, 100 * part["test_error"].to_numpy()) for (at,), part in points]
        label = " ".join(_setting(n, v) for n, v in zip(others, values, strict=True))
        curves.append(Curve(label, *map(list, zip(*found))))
    several = [curve for curve in curves if len(curve.values) > 1]
    return several or curves


def _setting(name: str, value: object) -> str:
    return str(value) if name == "dropout" else f"{name}={value}"


def plot_flag(table: pl.DataFrame, flag: str) -> Figure:
    """Plot test error over a flag: a curve for the arms that agree in all others.

    Where no two arms do, as the points of a random search, each is a point.
    """
    curves = flag_curves(table, flag)[: 2 * len(PALETTE)]
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    joined = any(len(curve.values) > 1 for curve in curves)
    for number, curve in enumerate(curves):
        estimates = [interval(errors) for errors in curve.errors]
        means = [estimate.mean for estimate in estimates]
        bars = [[_bounded(e.mean - e.low) for e in estimates]] * 2 if joined else None
        axes.errorbar(
            curve.values, means, bars, marker="o", capsize=2,
            color=PALETTE[number % len(PALETTE)] if joined else PALETTE[0],
            linestyle="-" if number < len(PALETTE) else "--",
            label=as_label(curve.label),
        )  # fmt: skip
    values = [value for curve in curves for value in curve.values]
    if min(values) > 0 and max(values) >= LOGARITHMIC * min(values):
        axes.set_xscale("log")
        axes.set_xticks(sorted(set(values))[:MOST_TICKS], minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=f"--{flag}", ylabel="test error, %")
    axes.grid(alpha=0.3)
    if joined and len(curves) > 1:
        figure.legend(loc="outside lower center", ncols=1)
    return figure


def _bounded(half: float) -> float:
    return half if np.isfinite(half) else 0.0
