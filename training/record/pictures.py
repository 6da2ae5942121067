"""Pictures on disk: in pixels for a page, in lines and letters for an article."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from training.record.files import replacing

DPI = 200


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG to `path`, and as SVG beside it."""
    save_png(figure, path)
    save_svg(figure, path.with_suffix(".svg"))


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as SVG; equal figures make equal files."""
    with (
        matplotlib.rc_context({"svg.hashsalt": "figure"}),
        replacing(path) as temporary,
    ):
        figure.savefig(temporary, metadata={"Date": None})


def as_label(text: str) -> str:
    """Return a text of a user that Matplotlib shows as it is.

    A dollar would begin mathematics, and what begins with _ is left out of legends.
    """
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
