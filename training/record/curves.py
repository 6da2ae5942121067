"""Pictures of a run: loss, accuracy and rates over the epochs."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.config import Config
from training.record.files import replacing
from training.record.metrics_log import Line, read_metrics
from training.runtime.processes import by_leader

COLOURS = {"train": "tab:blue", "validation": "tab:green", "test": "tab:orange"}


@by_leader
def plot_run(workdir: Path, config: Config) -> None:
    """Plot what a run's metrics hold so far into `curves.png` in its workdir."""
    title = f"{config.dataset}  {config.model}  --dropout='{config.dropout}'"
    if config.seeds:
        title += f"  --seeds={config.seeds}: means, and where all members lie"
    with replacing(workdir / "curves.png") as path:
        plot_curves(read_metrics(workdir), title, path)


def plot_curves(lines: list[Line], title: str, path: Path) -> None:
    """Plot loss, accuracy and the rate at each site that has one."""
    sites = sorted(
        {name for line in lines for name in line if name.startswith("rate/")}
    )
    figure = Figure(figsize=(13 if sites else 9, 3.8), layout="constrained")
    axes = figure.subplots(1, 3 if sites else 2)
    _plot_splits(axes[0], lines, "loss", "log")
    _plot_splits(axes[1], lines, "accuracy", "linear")
    if sites:
        _plot_rates(axes[2], lines, sites)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def _plot_splits(axes: Axes, lines: list[Line], quantity: str, scale: str) -> None:
    for split, colour in COLOURS.items():
        found = [line for line in lines if line["split"] == split]
        if found:
            label = f"{split} (with dropout)" if split == "train" else split
            _plot_runs(axes, found, quantity, colour, label)
    axes.set(xlabel="epoch", ylabel=quantity, yscale=scale)
    axes.grid(alpha=0.3)
    axes.legend()


def _plot_rates(axes: Axes, lines: list[Line], sites: list[str]) -> None:
    found = [line for line in lines if line["split"] == "train"]
    for number, site in enumerate(sites):
        _plot_runs(axes, found, site, f"C{number % 10}", site[len("rate/") :])
    axes.set(xlabel="epoch", ylabel="dropout rate", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _plot_runs(
    axes: Axes, lines: list[Line], quantity: str, colour: str, label: str
) -> None:
    """One curve; of a population the mean, and between which values all members lie."""
    at: dict[float, list[float]] = {}
    for line in lines:
        value = math.nan if line[quantity] is None else line[quantity]
        at.setdefault(line["epoch"], []).append(value)
    means = [sum(values) / len(values) for values in at.values()]
    marker = "o" if len(at) == 1 else None
    axes.plot(list(at), means, color=colour, label=label, marker=marker)
    if "member" in lines[0]:
        low, high = (list(map(bound, at.values())) for bound in (min, max))
        axes.fill_between(list(at), low, high, color=colour, alpha=0.2, linewidth=0)
