"""The pictures of claims and of the reference study."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pages.evidence import CLAIMS, gate_files
from pages.reference_study import (
    ERROR,
    NOISE,
    PLACES,
    SOURCES,
    WHEN,
    WHERE,
    deviation,
    errors,
    gains,
    much_rows,
    present,
)
from studies.statistics import Estimate, interval
from studies.study import RESULTS
from training.record.curves import plain_numbers
from training.record.pictures import (
    PAGE,
    PALETTE,
    article_style,
    as_label,
    save_png,
)

LOGARITHMIC = 5  # An axis of errors whose largest is that often the smallest.


def plot_reference(out: Path) -> list[Path]:
    """Plot noise, where, how much and when, as far as they have run."""
    plots = {"noise": _noise, "where": _where, "how_much": _much, "when": _when}
    paths = []
    with article_style():
        for name, plot in plots.items():
            figure = plot()
            if figure:
                paths.append(out / f"reference-{name}.png")
                save_png(figure, paths[-1])
    return paths


def plot_claims(out: Path) -> list[Path]:
    """Plot the error of each arm of those claims whose rows are beside their gates."""
    paths = []
    with article_style():
        for name in gate_files(CLAIMS):
            kept = CLAIMS / f"{name}.{RESULTS}"
            if kept.exists():
                paths.append(out / f"claims-{name}.png")
                save_png(_arms(pl.read_parquet(kept)), paths[-1])
    return paths


def _arms(rows: pl.DataFrame) -> Figure:
    """Plot the test error of each arm with its interval, one under the other."""
    arms = rows["arm"].unique(maintain_order=True).to_list()
    found = [interval(100 * errors(rows, arm)) for arm in arms]
    figure = Figure(figsize=(0.8 * PAGE, 0.7 + 0.22 * len(arms)), layout="constrained")
    axis = figure.subplots()
    _rows(axis, found, PALETTE[0])
    axis.set_yticks(range(len(arms)), [as_label(arm) for arm in arms])
    axis.set(xlabel="test error, %", ylim=(len(arms) - 0.5, -0.5))
    means = [estimate.mean for estimate in found]
    if max(means) > LOGARITHMIC * min(means):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _noise() -> Figure | None:
    """Plot the standard deviation from each source, a panel for each data set."""
    found = present(NOISE)
    if not found:
        return None
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, (title, rows) in zip(axes, found.items()):
        for number, (rate, colour) in enumerate(zip(("0", "0.25", "0.5"), PALETTE)):
            values = {s: errors(rows, f"{s} {rate}") for s in SOURCES}
            bars = {
                i: Estimate(*deviation(v))
                for i, v in enumerate(values.values())
                if len(v)
            }
            places = np.array(list(bars)) + 0.2 * (number - 1)
            _bars(axis, places, list(bars.values()), colour, f"rate {rate}")
        axis.set_xticks(range(len(SOURCES)), SOURCES, fontsize="small")
        axis.set(title=title, ylim=(0, None))
        axis.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("standard deviation\nof the test error, points")
    axes[-1].legend()
    return figure


def _where() -> Figure | None:
    """Plot the gain of each place over no dropout, a panel for each data set."""
    found = present(WHERE)
    if not found:
        return None
    arms = [arm for arm in PLACES if arm != "none"]
    figure = Figure(figsize=(PAGE, 0.9 + 0.24 * len(arms)), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (title, rows), colour in zip(axes, found.items(), PALETTE):
        tests = gains(rows)
        _rows(axis, [tests[arm].difference for arm in arms], colour)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(f"{title}\n{errors(rows, 'none').mean():.1f} % without")
    axes[0].set_yticks(range(len(arms)), [PLACES[arm] for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.supxlabel("points of test error gained over no dropout, both tuned alike")
    return figure


def _much() -> Figure | None:
    """Plot the error over the rate, a curve for each number of examples."""
    rows = much_rows()
    if rows is None:
        return None
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    sizes = sorted(rows["size"].unique())
    axes = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axis, size, colour in zip(axes, sizes, PALETTE):
        own = rows.filter(size=size)
        rates = sorted(own["rate"].unique())
        found = [_interval(own.filter(rate=rate)) for rate in rates]
        _bars(axis, np.array(rates), found, colour, "", line="-")
        axis.set(title=f"{size:,} examples", xlabel="rate", yscale="log")
        plain_numbers(axis)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test error, %")
    return figure


def _interval(rows: pl.DataFrame) -> Estimate:
    return interval(rows[ERROR].to_numpy())


def _when() -> Figure | None:
    """Plot the difference of each schedule to a constant rate."""
    found = present(WHEN)
    if not found:
        return None
    figure = Figure(figsize=(PAGE, 1.9), layout="constrained")
    axes = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (title, rows), colour in zip(axes, found.items(), PALETTE):
        tests = gains(rows, "constant")
        _rows(axis, [test.difference for test in tests.values()], colour)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.axvspan(-0.2, 0.2, color="#E0E0E0", linewidth=0, zorder=0)
        axis.set_title(title)
        axis.set_yticks(range(len(tests)), list(tests))
        axis.set_ylim(len(tests) - 0.5, -0.5)
    figure.supxlabel("points of test error gained over a constant rate of 0.3")
    return figure


def _rows(axis: Axes, found: list[Estimate], colour: str) -> None:
    """Plot means with intervals, one under the other."""
    for row, (mean, low, high) in enumerate(found):
        axis.plot((low, high), (row, row), color=colour, solid_capstyle="butt")
        axis.plot(mean, row, "o", color=colour)
    axis.grid(alpha=0.3, axis="x")


def _bars(
    axis: Axes,
    places: np.ndarray,
    found: list[Estimate],
    colour: str,
    label: str,
    line: str = "none",
) -> None:
    """Plot means with intervals as error bars."""
    means, lows, highs = np.array(found).T
    axis.errorbar(
        places, means, (means - lows, highs - means),
        marker="o", linestyle=line, capsize=2, color=colour, label=label,
    )  # fmt: skip
