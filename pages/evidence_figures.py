"""The pictures of claims and of the reference study."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pages.evidence import CLAIMS, errors_by_arm, errors_by_samples, gate_files
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
    """Plot the error of each arm, and over samples, of the claims that have rows."""
    paths = []
    with article_style():
        for name, gates in gate_files(CLAIMS).items():
            by_arm, by_samples = errors_by_arm(gates), errors_by_samples(gates)
            if by_arm:
                paths.append(out / f"claims-{name}.png")
                save_png(_arms(by_arm), paths[-1])
            if not by_samples.is_empty():
                paths.append(out / f"claims-{name}-samples.png")
                save_png(_samples(by_samples), paths[-1])
    return paths


def _samples(rows: pl.DataFrame) -> Figure:
    """Plot the error over the samples of Monte-Carlo, and that of weight scaling."""
    figure = Figure(figsize=(0.8 * PAGE, 2.4), layout="constrained")
    axis = figure.subplots()
    by_arm = rows.group_by("arm", maintain_order=True)
    for ((arm,), own), colour in zip(by_arm, PALETTE):
        mean = own.group_by("samples", maintain_order=True).agg(pl.mean("value"))
        for _, seed in own.group_by("seed", maintain_order=True):
            axis.plot(seed["samples"], seed["value"], color=colour, alpha=0.4, lw=0.6)
        label = f"{arm}: Monte-Carlo"
        axis.plot(mean["samples"], mean["value"], "o-", color=colour, label=label)
        scaling, label = own["scaling"].to_numpy().mean(), f"{arm}: weight scaling"
        axis.axhline(scaling, color=colour, linestyle="--", linewidth=0.8, label=label)
    axis.set(xscale="log", xlabel="samples", ylabel="test error, %")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def _arms(by_arm: dict[str, np.ndarray]) -> Figure:
    """Plot the test error of each arm with its interval, one under the other."""
    found = [interval(values) for values in by_arm.values()]
    figure = Figure(figsize=(0.8 * PAGE, 0.7 + 0.22 * len(found)), layout="constrained")
    axis = figure.subplots()
    _rows(axis, found, PALETTE[0])
    axis.set_yticks(range(len(found)), [as_label(arm) for arm in by_arm])
    axis.set(xlabel="test error, %", ylim=(len(found) - 0.5, -0.5))
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
    axes = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
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
