"""Pictures of a study: learning curves, rate response, rate by layer, schedules."""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.comparison import TableLine
from studies.comparison_pictures import numeric_flags, plot_differences, plot_flag
from studies.picture_data import (
    held_out_curves,
    plotted_arms,
    rates_over_run,
    response_curve,
    response_points,
)
from studies.statistics import Estimate, interval
from training.record.curves import plain_numbers, plot_rates
from training.record.pictures import COLUMN, PALETTE, as_label, save_pdf, save_svg

MOST_CURVES = len(PALETTE)
MOST_BANDS = 3  # More hide each other.


class Picture(NamedTuple):
    """Figures side by side, with their file name, title and caption."""

    name: str
    title: str
    caption: str
    figures: list[Figure]


def pictures(
    table: pl.DataFrame, lines: list[TableLine], directory: Path
) -> list[Picture]:
    """Return all pictures for which the arms of a study have something to show."""
    made = (
        differences(lines),
        learning_curves(table, directory),
        rate_response(table),
        rate_by_layer(table),
        flag_response(table),
        schedules(table, directory),
    )
    return [picture for picture in made if picture]


def differences(lines: list[TableLine]) -> Picture | None:
    """Plot the difference of each arm in test error, with its interval."""
    figure = plot_differences(lines)
    caption = (
        "Bars are 95 % intervals over seeds; a filled point has p < 0.05 after Holm's "
        "correction; within the grey band errors count as equal."
    )
    title = "Differences in test error"
    return Picture("differences", title, caption, [figure]) if figure else None


def flag_response(table: pl.DataFrame) -> Picture | None:
    """Plot test error over each flag of numbers in which the arms differ."""
    figures = [plot_flag(table, flag) for flag in numeric_flags(table)]
    caption = "Bars are 95 % intervals over seeds."
    return Picture("flags", "Error over flags", caption, figures) if figures else None


def learning_curves(table: pl.DataFrame, directory: Path) -> Picture | None:
    """Plot held-out loss and error over epochs, with intervals over seeds."""
    arms = plotted_arms(table, MOST_CURVES)
    curves = {arm: held_out_curves(table.filter(arm=arm), directory) for arm in arms}
    if all(len(lines[0]) < 2 for lines in curves.values()):
        return None
    figures, (loss, error) = zip(*(_panel() for _ in range(2)))
    spread = _band if len(curves) <= MOST_BANDS else _bar_at_end
    for colour, (arm, (epochs, losses, errors)) in zip(PALETTE, curves.items()):
        for axes, values in ((loss, losses), (error, 100 * errors)):
            axes.plot(epochs, values.mean(0), color=colour, label=_in_lines(arm))
            if len(values) > 1:
                spread(axes, epochs, values, colour)
    for figure, axes, quantity in zip(figures, (loss, error), ("loss", "error, %")):
        axes.set(xlabel="epoch", ylabel=quantity, yscale="log")
        plain_numbers(axes)
        axes.grid(alpha=0.3, which="both")
        _legend_below(figure, axes)
    caption = "On held-out examples; bands and bars are 95 % intervals over seeds."
    return Picture("curves", "Learning curves", caption, list(figures))


def rate_response(table: pl.DataFrame) -> Picture | None:
    """Plot test error against the rate, for rules that have two rates or more."""
    points = response_points(table)
    families = list(dict.fromkeys(p.family for p in points if p.rate > 0))
    curves = {name: response_curve(points, name) for name in families}
    curves = {name: found for name, found in curves.items() if len(found) > 2}
    if not curves:
        return None
    figure, axes = _panel()
    for colour, (name, found) in zip(PALETTE, curves.items()):
        estimates = [interval(100 * point.errors) for point in found]
        axes.errorbar(
            [point.rate for point in found],
            [estimate.mean for estimate in estimates],
            np.transpose([_bar(estimate) for estimate in estimates]),
            marker="o", capsize=3, color=colour, label=_in_lines(name),
        )  # fmt: skip
    axes.set(xlabel="rate", ylabel="test error, %")
    axes.grid(alpha=0.3)
    _legend_below(figure, axes)
    caption = "Bars are 95 % intervals over seeds; rate 0 is the arm without dropout."
    return Picture("rates", "Rate response", caption, [figure])


def rate_by_layer(table: pl.DataFrame) -> Picture | None:
    """Plot mean test error by layer and rate, for several layers and rates."""
    points = [point for point in response_points(table) if point.rate > 0]
    layers = list(dict.fromkeys(point.family for point in points))
    rates = sorted({point.rate for point in points})
    if len(layers) < 2 or len(points) == len(layers):
        return None
    errors = np.full((len(layers), len(rates)), np.nan)
    for point in points:
        cell = layers.index(point.family), rates.index(point.rate)
        errors[cell] = 100 * point.errors.mean()
    figure = Figure(figsize=(2.5 + 0.9 * len(rates), 1.4 + 0.5 * len(layers)))
    figure.set_layout_engine("constrained")
    _heat_map(figure.subplots(), errors, layers, rates)
    caption = "Mean test error over seeds, in %."
    return Picture("layers", "Rate by layer", caption, [figure])


def schedules(table: pl.DataFrame, directory: Path) -> Picture | None:
    """Plot the rate at each site over the run, one panel per arm with dropout."""
    rates = {
        arm: rates_over_run(table.filter(arm=arm), directory)
        for arm in plotted_arms(table, MOST_CURVES)
    }
    rates = {arm: sites for arm, sites in rates.items() if sites}
    if not rates:
        return None
    figures = []
    for arm, curves in rates.items():
        figure, axes = _panel(height=2.2)
        plot_rates(axes, curves)
        axes.set_title(_in_lines(arm), fontsize="small")
        figures.append(figure)
    return Picture("schedules", "Rates over the run", "Rate at each site.", figures)


def save(picture: Picture, directory: Path) -> list[str]:
    """Write each figure as SVG and PDF, and return the names of the SVG files."""
    names = [f"{picture.name}-{index}.svg" for index in range(len(picture.figures))]
    for name, figure in zip(names, picture.figures):
        save_svg(figure, directory / name)
        save_pdf(figure, directory / Path(name).with_suffix(".pdf"))
    return names


def _panel(height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    return figure, figure.subplots()


def _band(axes: Axes, epochs: np.ndarray, values: np.ndarray, colour: str) -> None:
    estimates = [interval(column) for column in values.T]
    low = [max(estimate.low, estimate.mean / 10) for estimate in estimates]
    high = [estimate.high for estimate in estimates]
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _bar_at_end(
    axes: Axes, epochs: np.ndarray, values: np.ndarray, colour: str
) -> None:
    """Plot the last interval after the curve, each arm's beside those before it."""
    last = interval(values[:, -1])
    at = epochs[-1] * (1.02 + 0.015 * len(axes.containers))
    low = min(last.mean - last.low, 0.9 * last.mean)
    bounds = [[low], [last.high - last.mean]]
    axes.errorbar([at], [last.mean], bounds, color=colour, capsize=2, marker=".")


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, labels)) > 20 else 2
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize="small"
    )


def _bar(estimate: Estimate) -> tuple[float, float]:
    """Return how far an interval reaches down and up, within 0 and 100 %."""
    if not np.isfinite(estimate.high):
        return 0.0, 0.0
    mean, low, high = estimate
    return mean - max(low, 0.0), min(high, 100.0) - mean


def _heat_map(
    axes: Axes, errors: np.ndarray, layers: list[str], rates: list[float]
) -> None:
    image = axes.imshow(errors, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(layers)), [_in_lines(layer) for layer in layers])
    axes.set_xlabel("rate")
    middle = np.nanmean([np.nanmin(errors), np.nanmax(errors)])
    for (row, column), value in np.ndenumerate(errors):
        if np.isfinite(value):
            colour = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", c=colour)
    figure = axes.figure
    figure.colorbar(image, label="test error, %")


def _in_lines(text: str) -> str:
    """Return the name of an arm in lines that fit a panel, its rate included."""
    return as_label("\n".join(textwrap.wrap(text, 60)))
