"""Tables, a JSON file and charts of the times that `scripts/bench.py` measures."""

import json
import os
import platform
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

PACKAGES = ("jax", "flax", "torch", "tensorflow", "keras")


class Measured(NamedTuple):
    """The times of one contestant, as quartiles over the rounds, in milliseconds.

    Attributes:
        ratio: the median divided by the first contestant's median.
        kept: the bytes that the forward pass keeps for the backward pass, if known.
    """

    lower: float
    median: float
    upper: float
    ratio: float
    kept: int | None = None


Results = dict[str, Measured]  # The keys are the names of the contestants.


def machine() -> dict[str, str | int]:
    """Return the date, device, processor and versions, on which the times depend."""
    return {
        "date": date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        **{name: version(name) for name in PACKAGES if find_spec(name)},
    }


def as_table(title: str, results: Results) -> Table:
    """Return one comparison as a table for the terminal."""
    table = Table("", "median ms", "quartiles", "ratio", "bytes kept", title=title)
    for name, found in results.items():
        kept = "" if found.kept is None else f"{found.kept:,}"
        spread = f"{found.lower:.2f}-{found.upper:.2f}"
        table.add_row(name, f"{found.median:.2f}", spread, f"{found.ratio:.2f}", kept)
    return table


def write(tables: dict[str, Results], out: Path) -> None:
    """Write `bench.json` and `bench.png` of all tables, by their titles."""
    record = {"machine": machine(), "tables": as_dictionaries(tables)}
    (out / "bench.json").write_text(json.dumps(record, indent=2) + "\n")
    plot_bars(tables, out / "bench.png")


def as_dictionaries(tables: dict[str, Results]) -> dict[str, dict]:
    """Return the tables as plain dictionaries."""
    return {
        title: {name: found._asdict() for name, found in results.items()}
        for title, results in tables.items()
    }


def plot_bars(tables: dict[str, Results], path: Path) -> None:
    """Plot one bar chart per table: medians in milliseconds, with their quartiles."""
    rows = [len(results) for results in tables.values()]
    size = (8, 0.8 * len(rows) + 0.3 * sum(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(tables), squeeze=False, height_ratios=rows)
    for axis, (title, results) in zip(axes[:, 0], tables.items()):
        found = list(results.values())
        medians = np.array([each.median for each in found])
        low, high = ([getattr(m, side) for m in found] for side in ("lower", "upper"))
        axis.barh(list(results), medians, xerr=[medians - low, high - medians])
        axis.set(title=title, xlabel="ms")
        axis.invert_yaxis()
    figure.savefig(path, dpi=150)
