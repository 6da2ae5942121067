"""The figures of the gallery, which show every variant and every schedule."""

import inspect
import io
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from dropout import SCHEDULES, VARIANTS, Timeline, Variant, factor_at
from dropout.grammar import Call, option_types
from pages.families import FAMILIES, family
from pages.pictures import picture

RATES = (0.0, 0.1, 0.3, 0.6)
DROPPED = "#ff6b00"
ACROSS = 2  # The number of variants side by side.
COLUMNS = 5  # The number of schedules side by side.
TIMELINE = Timeline(1000, 100)
LINEAR_FORMS = tuple(Call(name, (("shape", "linear"),)) for name in ("early", "late"))
STRIP = ("bernoulli", "spatial", "dropblock", "cutout", "dropconnect", "drop_path")
STRIP_RATE = 0.3


def plot_variants(path: Path) -> None:
    """Plot each variant before and at each rate, by family."""
    lines = list(layout())
    height = [0.85, *(1.85 + 0.4 * bool(title) for title, _ in lines)]
    figure = Figure(figsize=(12.5, sum(height)), layout="constrained")
    grid = figure.subfigures(len(height), 1, squeeze=False, height_ratios=height)
    header, *parts = grid[:, 0]
    header.suptitle(
        f"What is dropped: before, and at rates {', '.join(map(str, RATES[1:]))}\n"
        "orange is zero or less; what is brighter than before is scaled up",
        size=16,
    )
    for part, (title, variants) in zip(parts, lines, strict=True):
        part.suptitle(title, size=17, weight="bold", x=0.01, ha="left")
        cells = part.subfigures(1, ACROSS)
        for cell, entry in zip(cells, variants):
            plot_variant(cell, entry)
    save(figure, path)


def layout() -> Iterator[tuple[str, list[Variant]]]:
    """Yield the title and variants of each line; a family's first line has a title."""
    for name, group in groupby(VARIANTS.values(), family):
        title = FAMILIES[name] if name in FAMILIES else name
        variants = list(group)
        for start in range(0, len(variants), ACROSS):
            yield "" if start else title, variants[start : start + ACROSS]


def plot_strip(path: Path) -> None:
    """Plot six variants before and at one rate, side by side."""
    figure = Figure(figsize=(12, 2.3), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(STRIP)), STRIP, strict=True):
        image = np.asarray(picture(VARIANTS[name], STRIP_RATE))
        plot_picture(axis, image, 1.0)
        axis.set_title(name, size=15, family="monospace")
    save(figure, path)


def variant_png(entry: Variant) -> bytes:
    """Return the picture of one variant, for its section of the reference."""
    figure, file = Figure(figsize=(9, 2.55), layout="constrained"), io.BytesIO()
    plot_rates(figure, entry)
    save(figure, file)
    return file.getvalue()


def plot_variant(cell: SubFigure, entry: Variant) -> None:
    """Plot one variant before and at each rate, under its name."""
    cell.suptitle(entry.name, size=15, family="monospace")
    plot_rates(cell, entry)


def plot_rates(cell: Figure | SubFigure, entry: Variant) -> None:
    """Plot one variant before and at each rate, on the same scale of brightness."""
    pictures = [np.asarray(picture(entry, rate)) for rate in RATES]
    highest = 1.4 * np.nanmax(pictures[0])
    for axis, rate, image in zip(cell.subplots(1, len(RATES)), RATES, pictures):
        plot_picture(axis, image, highest)
        axis.set_xlabel(f"{rate:g}" if rate else "before", size=12)


def plot_picture(
    axis: Axes, image: Float[np.ndarray, "height width"], highest: float
) -> None:
    """Plot one picture, with values of zero or less in orange and gaps in white."""
    colours = matplotlib.colormaps["gray"].copy()
    colours.set_under(DROPPED)
    colours.set_bad("white")
    axis.imshow(image, cmap=colours, vmin=1e-9, vmax=highest, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def plot_schedules(path: Path) -> None:
    """Plot the factor of each schedule over a run, with its default options."""
    calls = [*map(Call, SCHEDULES), *LINEAR_FORMS]
    lines = -(-len(calls) // COLUMNS)
    figure = Figure(figsize=(15, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, COLUMNS, sharey=True)
    for axis in axes.flat[len(calls) :]:
        axis.axis("off")
    for axis, call in zip(axes.flat, calls):
        plot_schedule(axis, call)
    figure.supxlabel("fraction of the run", size=14)
    figure.supylabel("factor on the rate", size=14)
    save(figure, path)


def plot_schedule(axis: Axes, call: Call) -> None:
    """Plot the factor of one schedule at every step of a run."""
    steps = jnp.arange(TIMELINE.total)
    factors = jax.vmap(lambda step: factor_at(call, step, TIMELINE))(steps)
    fractions = steps / TIMELINE.total
    axis.fill_between(fractions, factors, alpha=0.25)
    axis.plot(fractions, factors, linewidth=2.5)
    axis.set_title(f"{call.name}\n{options_of(call)}", size=12, family="monospace")
    axis.set(xlim=(0, 1), ylim=(-0.03, 1.08))
    axis.tick_params(labelsize=11)
    axis.grid(alpha=0.3)


def options_of(call: Call) -> str:
    """Return the options of a schedule as in flags, one per line."""
    parameters = inspect.signature(SCHEDULES[call.name]).parameters
    given = dict(call.options)
    return "\n".join(
        f"{name}={given[name] if name in given else parameters[name].default}"
        for name in option_types(SCHEDULES[call.name])
    )


def save(figure: Figure, path: Path | io.BytesIO) -> None:
    """Write a figure as a PNG that is small enough for a page."""
    figure.savefig(path, format="png", dpi=100, pil_kwargs={"optimize": True})
