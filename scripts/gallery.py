"""Draws what every variant does at three rates, and every schedule.

    python scripts/gallery.py --out=docs/images

Writes `variants.png`, one row of pictures for each registered variant, by family, and
`schedules.png`, the factor of each registered schedule over a run.
"""

import inspect
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import app, flags

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import SubFigure  # noqa: E402

from catalogue.pictures import family, picture  # noqa: E402
from dropout import SCHEDULES, VARIANTS, Timeline, Variant, factor_at  # noqa: E402
from dropout.grammar import Call, option_types  # noqa: E402

OUT = flags.DEFINE_string("out", "docs/images", "where the pictures go")

RATES = (0.0, 0.1, 0.3, 0.6)
DROPPED = "#ff6b00"
ACROSS = 2  # variants side by side

FAMILIES = {
    "elementwise": "Elements",
    "structured": "Channels and positions",
    "blocks": "Blocks",
    "regions": "Regions of the image",
    "pooling": "Pooling windows",
    "kernels": "Weights",
    "paths": "Paths: four examples, four steps",
    "recurrent": "Recurrent states: time from top to bottom",
    "attention": "Attention: four heads, a row for each query",
    "learned": "Learned and adaptive rates, at the rate that they start with",
}

LINEAR_FORMS = tuple(Call(name, (("shape", "linear"),)) for name in ("early", "late"))


def main(argv: list[str]) -> None:
    """Draws both pictures."""
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    draw_variants(out / "variants.png")
    draw_schedules(out / "schedules.png")
    print(f"variants.png and schedules.png in {out}")


def draw_variants(path: Path) -> None:
    """A row of pictures for each variant, by family, before and at each rate."""
    lines = list(layout())
    height = [0.85, *(1.85 + 0.4 * bool(title) for title, _ in lines)]
    figure = plt.figure(figsize=(12.5, sum(height)), layout="constrained")
    grid = figure.subfigures(len(height), 1, squeeze=False, height_ratios=height)
    header, *parts = grid[:, 0]
    header.suptitle(
        f"What is dropped: before, and at rates {', '.join(map(str, RATES[1:]))}\n"
        "orange is zero or less; what is brighter than before is scaled up",
        size=16,
    )
    for part, (title, members) in zip(parts, lines, strict=True):
        part.suptitle(title, size=17, weight="bold", x=0.01, ha="left")
        cells = part.subfigures(1, ACROSS)
        for cell, entry in zip(cells, members):
            draw_variant(cell, entry)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
    plt.close(figure)


def layout() -> Iterator[tuple[str, list[Variant]]]:
    """The variants of each line of the picture; a family's first line has a title."""
    for name, members in groupby(VARIANTS.values(), family):
        title = FAMILIES[name] if name in FAMILIES else name
        rest = list(members)
        for start in range(0, len(rest), ACROSS):
            yield "" if start else title, rest[start : start + ACROSS]


def draw_variant(cell: SubFigure, entry: Variant) -> None:
    """One variant before and at each rate, all as bright as they are."""
    cell.suptitle(entry.name, size=15, family="monospace")
    pictures = [np.asarray(picture(entry, rate)) for rate in RATES]
    highest = 1.4 * np.nanmax(pictures[0])
    for axis, rate, image in zip(cell.subplots(1, len(RATES)), RATES, pictures):
        show(axis, image, highest)
        axis.set_xlabel(f"{rate:g}" if rate else "before", size=12)


def show(axis: Axes, image: np.ndarray, highest: float) -> None:
    """One picture; zero or less in orange, gaps in white."""
    colours = plt.get_cmap("gray").copy()
    colours.set_under(DROPPED)
    colours.set_bad("white")
    axis.imshow(image, cmap=colours, vmin=1e-9, vmax=highest, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def draw_schedules(path: Path) -> None:
    """The factor of each schedule over a run, with its default options."""
    timeline, columns = Timeline(1000, 100), 5
    calls = [*map(Call, SCHEDULES), *LINEAR_FORMS]
    rows = -(-len(calls) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(15, 3.2 * rows), sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(calls) :]:
        axis.axis("off")
    steps = jnp.arange(timeline.total)
    for axis, call in zip(axes.flat, calls):
        factors = jax.vmap(lambda step, call=call: factor_at(call, step, timeline))
        axis.fill_between(steps / timeline.total, factors(steps), alpha=0.25)
        axis.plot(steps / timeline.total, factors(steps), linewidth=2.5)
        axis.set_title(f"{call.name}\n{options_of(call)}", size=12, family="monospace")
        axis.set(xlim=(0, 1), ylim=(-0.03, 1.08))
        axis.tick_params(labelsize=11)
        axis.grid(alpha=0.3)
    figure.supxlabel("fraction of the run", size=14)
    figure.supylabel("factor on the rate", size=14)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
    plt.close(figure)


def options_of(call: Call) -> str:
    """The options of a schedule as in flags, one a line."""
    parameters = inspect.signature(SCHEDULES[call.name]).parameters
    given = dict(call.options)
    return "\n".join(
        f"{name}={given[name] if name in given else parameters[name].default}"
        for name in option_types(SCHEDULES[call.name])
    )


if __name__ == "__main__":
    app.run(main)
