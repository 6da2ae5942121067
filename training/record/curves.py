"""Pictures of a run: loss, accuracy and rates over the epochs."""

import math
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from dropout import VARIANTS, Row, Timeline
from training.experiment import Experiment
from training.record.metrics_log import LoggedLine, read_metrics
from training.record.pictures import PALETTE, as_label, save_png
from training.record.rates import RateCurve, label_of, rate_curves
from training.runtime.processes import by_leader

CURVES = "curves.png"
COLOURS = dict(zip(("train", "test", "validation"), PALETTE))
TITLE_WIDTH = 130
MOST_NAMES = 8  # More do not fit beside a picture of this height.


@by_leader
def plot_run(workdir: Path, experiment: Experiment) -> None:
    """Plot what a run's metrics hold so far into `curves.png` in its workdir."""
    lines = read_metrics(workdir)
    figure = plot_curves(lines, curves_of(experiment, lines), title_of(experiment))
    save_png(figure, workdir / CURVES)


def title_of(experiment: Experiment) -> str:
    """Return what was trained, and for a population what is plotted."""
    config = experiment.config
    title = f"{config.dataset}  {config.model}  --dropout='{config.dropout}'"
    if config.seeds:
        title += f"  --seeds={config.seeds}: means, and the range of all members"
    return as_label(textwrap.fill(title, TITLE_WIDTH))


def curves_of(experiment: Experiment, lines: list[LoggedLine]) -> list[RateCurve]:
    """Return the rates of a run, or of all members, as far as its metrics reach."""
    runs = [run.rows for run in experiment.runs]
    return all_rate_curves(runs, experiment.timeline, lines)


def all_rate_curves(
    runs: list[tuple[Row, ...]], timeline: Timeline, lines: list[LoggedLine]
) -> list[RateCurve]:
    """Return the rates that schedules give, then those that are learned, as logged."""
    done = max((line["step"] for line in lines), default=0)
    learned = [row.site for row in runs[0] if VARIANTS[row.variant.name].learned]
    scheduled = [tuple(r for r in rows if r.site not in learned) for rows in runs]
    curves = rate_curves(scheduled, timeline, done) if scheduled[0] and done else []
    return [*curves, *(learned_curve(site, lines) for site in learned)]


def learned_curve(site: str, lines: list[LoggedLine]) -> RateCurve:
    """Return the rate that a site has learned, at the steps at which it was logged."""
    at = values_at(lines, "train", f"rate/{site}")
    low, high = (
        np.array([bound(values) for values in at.values()]) for bound in (min, max)
    )
    return RateCurve((site,), np.array([*at]), low, high)


def plot_curves(lines: list[LoggedLine], rates: list[RateCurve], title: str) -> Figure:
    """Plot loss, accuracy and the rates, if there are any."""
    figure = Figure(figsize=(14 if rates else 9, 3.8), layout="constrained")
    axes = figure.subplots(1, 3 if rates else 2)
    _plot_splits(axes[0], lines, "loss", "log")
    _plot_splits(axes[1], lines, "accuracy", "linear")
    if rates:
        plot_rates(axes[2], rates)
    figure.suptitle(title, fontsize=10)
    return figure


def plain_numbers(axes: Axes) -> None:
    """Write the numbers of a logarithmic axis as 0.25, and not as powers of ten."""
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1.5, 0.5)))
    axes.tick_params(axis="y", which="minor", labelsize="x-small")


class _PlainLogFormatter(LogFormatter):
    """Chooses which minor ticks have a number, and writes it shortly."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.4g}" if super().__call__(x, pos) else ""


def _plot_splits(
    axes: Axes, lines: list[LoggedLine], quantity: str, scale: str
) -> None:
    for split, colour in COLOURS.items():
        found = [line for line in lines if line["split"] == split]
        if found:
            label = f"{split} (with dropout)" if split == "train" else split
            _plot_runs(axes, found, quantity, colour, label)
    axes.set(xlabel="epoch", ylabel=quantity, yscale=scale)
    if scale == "log":
        plain_numbers(axes)
    axes.grid(alpha=0.3)
    axes.legend()


def plot_rates(axes: Axes, rates: list[RateCurve]) -> None:
    """Plot rates over epochs; if there are many, the legend names some of them."""
    few = len(rates) <= MOST_NAMES
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(rates)))
    named = {round(i) for i in np.linspace(0, len(rates) - 1, MOST_NAMES)}
    for number, curve in enumerate(rates):
        colour = f"C{number}" if few else colours[number]
        label = as_label(label_of(curve.sites)) if few or number in named else None
        axes.step(curve.epochs, curve.high, where="post", color=colour, label=label)
        if (curve.low != curve.high).any():
            bounds = curve.low, curve.high
            axes.fill_between(
                curve.epochs, *bounds, step="post", color=colour, alpha=0.2, linewidth=0
            )
    axes.set(xlabel="epoch", ylabel="dropout rate", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    title = None if few else f"{len(named)} of {len(rates)} rates"
    axes.legend(
        fontsize="x-small", title=title, loc="upper left", bbox_to_anchor=(1, 1)
    )


def values_at(
    lines: list[LoggedLine], split: str, quantity: str
) -> dict[float, list[float]]:
    """Return a quantity of a split at each epoch, of all members of a population."""
    at: dict[float, list[float]] = {}
    for line in lines:
        if line["split"] == split:
            value = math.nan if line[quantity] is None else line[quantity]
            at.setdefault(line["epoch"], []).append(value)
    return at


def _plot_runs(
    axes: Axes, lines: list[LoggedLine], quantity: str, colour: str, label: str
) -> None:
    """Plot a curve; for a population the mean, and the range of all members."""
    at = values_at(lines, lines[0]["split"], quantity)
    means = [sum(values) / len(values) for values in at.values()]
    marker = "o" if len(at) == 1 else None
    axes.plot(list(at), means, color=colour, label=label, marker=marker)
    if "member" in lines[0]:
        low, high = (list(map(bound, at.values())) for bound in (min, max))
        axes.fill_between(list(at), low, high, color=colour, alpha=0.2, linewidth=0)
