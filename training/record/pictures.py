"""Pictures on disk: as pixels for a page, and as vectors for an article."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from training.record.files import replacing

DPI = 200
# Okabe and Ito's colours, which colour-blind readers can tell apart.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9",
)  # fmt: skip
# Inches: one column of an article with two, and both.
COLUMN, PAGE = 3.4, 7.0
ARTICLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "legend.fontsize": 7,
    "axes.prop_cycle": cycler(color=PALETTE),
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}
# Text stays text, which a reader can search and an article's fonts can replace.
VECTORS: dict[Any, Any] = {
    "svg.hashsalt": "figure",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def article_style() -> AbstractContextManager[None]:
    """Return a context in which figures are made with letters of an article's size."""
    return matplotlib.rc_context(ARTICLE)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG to `path`, and as SVG and PDF beside it."""
    save_png(figure, path)
    save_svg(figure, path.with_suffix(".svg"))
    save_pdf(figure, path.with_suffix(".pdf"))


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as SVG; equal figures make equal files."""
    _save_vectors(figure, path, {"Date": None})


def save_pdf(figure: Figure, path: Path) -> None:
    """Write a figure as PDF; equal figures make equal files."""
    _save_vectors(figure, path, {"CreationDate": None})


def _save_vectors(figure: Figure, path: Path, metadata: dict[str, None]) -> None:
    with matplotlib.rc_context(VECTORS), replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)


def as_label(text: str) -> str:
    """Return a text of a user that Matplotlib shows as it is.

    A dollar would begin mathematics, and what begins with _ is left out of legends.
    """
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
