"""The figure of `docs/convolution.md`: how a convolution is computed on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pages.figures import DROPPED, save

# A colour for each of the four positions in a window.
COLOURS = ListedColormap(["#9ecae1", "#fdd0a2", "#a1d99b", "#bcbddc", "#eeeeee"])
SIDE = 6  # The side of the map in the first three panels.
DARK = "#222222"
WINDOW = ((1, 1), (7, 0), (4, 1), (3, 1))  # Values, and whether they are kept.

Cells = Int[np.ndarray, "height width"]


def plot_convolution(path: Path) -> None:
    """Plot windows, phases, Winograd's products, strips and pooling with dropout."""
    figure = Figure(figsize=(13, 7.9), layout="constrained")
    # The title and the width of each panel, in pixels of the map that it shows.
    panels: list[tuple[str, float, Callable[[Axes], None]]] = [
        ("1  The output, in windows of 2x2", 8.4, plot_windows),
        ("2  The same output, as four arrays", 9.2, plot_arrays),
        ("3  The image, in phases", 11.6, plot_phases),
        ("4  Winograd: 16 products, not 36", 14.6, plot_winograd),
        ("5  A strip: windows of 5x5", 12.4, plot_strip),
        ("6  Pooling with dropout", 11.0, plot_pooling),
    ]
    axes = figure.subplots(2, 3).flat
    for axis, (title, width, plot) in zip(axes, panels, strict=True):
        plot(axis)
        axis.set_title(title, size=15, loc="left")
        axis.set(xlim=(-0.2, width), ylim=(-0.8 * width, 0.2))
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)
    save(figure, path)


def positions(height: int, width: int) -> Cells:
    """Return the number of each pixel's position in its 2x2 window."""
    rows, columns = np.indices((height, width)) % 2
    return 2 * rows + columns


def paint(axis: Axes, cells: Cells, left: float = 0, top: float = 0) -> None:
    """Paint the cells of a grid in the colours of their numbers."""
    height, width = cells.shape
    for row, column in np.ndindex(height, width):
        corner, colour = (left + column, -top - row - 1), COLOURS(cells[row, column])
        axis.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white"))


def frame(axis: Axes, left: float, top: float, side: float, colour: str = DARK) -> None:
    """Draw the border of a square."""
    corner = (left, -top - side)
    axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, lw=2.5))


def note(axis: Axes, left: float, top: float, text: str) -> None:
    """Write a text whose upper left corner is given."""
    axis.text(left, -top, text, size=12, va="top", color=DARK)


def centre(axis: Axes, left: float, top: float, text: str, colour: str = DARK) -> None:
    """Write a text in the middle of a cell."""
    axis.text(left + 0.5, -top - 0.5, text, size=15, ha="center", va="center",
              color=colour)  # fmt: skip


def plot_windows(axis: Axes) -> None:
    """Plot a map, its windows, and the numbers of the positions in one of them."""
    paint(axis, positions(SIDE, SIDE))
    for row, column in np.ndindex(SIDE // 2, SIDE // 2):
        frame(axis, 2 * column, 2 * row, 2)
    for number in range(4):
        centre(axis, number % 2, number // 2, str(number))
    note(axis, 0, SIDE + 0.2, "A colour is a position in the window.")


def plot_arrays(axis: Axes) -> None:
    """Plot the four arrays, each with the outputs at one position."""
    half = SIDE // 2
    for number in range(4):
        left, top = (half + 0.4) * (number % 2), (half + 0.4) * (number // 2)
        paint(axis, np.full((half, half), number), left, top)
        centre(axis, left + 1, top + 1, str(number))
    text = "Their maximum is the pooled map.\nThe first is the convolution of stride 2."
    note(axis, 0, SIDE + 0.6, text)


def plot_phases(axis: Axes) -> None:
    """Plot the image by phase, and the patches of two neighbouring windows."""
    paint(axis, positions(SIDE + 2, SIDE + 2))
    frame(axis, 0, 0, 3, DROPPED)
    frame(axis, 2, 0, 3, DARK)
    text = (
        "For position 0, a 3x3 kernel reads in each\n"
        "window the same pixels of each colour."
    )
    note(axis, 0, SIDE + 2.2, text)


def plot_winograd(axis: Axes) -> None:
    """Plot the tile that a window reads, its transform, and the window."""
    paint(axis, positions(4, 4), 0, 1)
    paint(axis, np.full((4, 4), 4), 5.5, 1)
    for row, column in np.ndindex(4, 4):
        centre(axis, 5.5 + column, 1 + row, "x")
    paint(axis, positions(2, 2), 11, 2)
    for start in (4.2, 9.7):
        arrow = {"arrowstyle": "->", "lw": 2}
        axis.annotate("", (start + 1.1, -3), (start, -3), arrowprops=arrow)
    note(axis, 0, 5.3, "sums of\n4x4 pixels")
    note(axis, 5.5, 5.3, "products with\nsums of weights")
    note(axis, 11, 5.3, "sums of\nproducts")


def plot_strip(axis: Axes) -> None:
    """Plot the windows of a strip and the overlapping tiles that they read."""
    paint(axis, np.full((7, 12), 4))
    for number in range(2):
        paint(axis, np.full((5, 5), number), 5 * number + 1, 1)
    for number, colour in enumerate((DARK, DROPPED)):
        frame(axis, 5 * number, 0, 7, colour)
    text = (
        "Tiles of 7x7 overlap by two pixels.\n49 products give 25 outputs, and the\n"
        "seven in a row are computed in one call."
    )
    note(axis, 0, 7.3, text)


def plot_pooling(axis: Axes) -> None:
    """Plot the four values of a window, the mask, and the largest that is kept."""
    for number, (value, kept) in enumerate(WINDOW):
        paint(axis, np.full((1, 1), number), 1.2 * number, 0.5)
        centre(axis, 1.2 * number, 0.5, str(value))
        centre(axis, 1.2 * number, 1.7, str(kept), DARK if kept else DROPPED)
    winner = max(range(4), key=lambda number: WINDOW[number][0] * WINDOW[number][1])
    paint(axis, np.full((1, 1), winner), 1.2 * winner, 3)
    centre(axis, 1.2 * winner, 3, str(WINDOW[winner][0]))
    note(axis, 5.3, 0.75, "values of a window")
    note(axis, 5.3, 1.95, "mask, drawn here")
    note(axis, 5.3, 3.0, "the largest that is kept,\nand its position")
    text = (
        "The product with the mask is never written.\n"
        "The gradient needs the position alone."
    )
    note(axis, 0, 5, text)
