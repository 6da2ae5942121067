"""The figures and the table of the study of overfitting."""

import csv
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.overfitting import (
    ARMS,
    Measurement,
    OverfittingStudy,
    curves,
    layers_of,
    models_of,
)

COLOURS = dict(zip(ARMS, ("tab:red", "tab:blue")))
STYLES = {"train": "--", "test": "-"}


def write_csv(measurements: list[Measurement], path: Path) -> None:
    """Write one line per measurement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([Measurement._fields, *measurements])


def plot_overfitting(
    study: OverfittingStudy, measurements: list[Measurement], path: Path
) -> None:
    """Plot the curves of `cnn` as means over seeds, with their range as a band."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, quantity in zip(axes, ("loss", "accuracy")):
        for arm, colour in COLOURS.items():
            for split, style in STYLES.items():
                values = curves(measurements, "cnn", arm, f"{split} {quantity}")
                plot_band(axis, values, colour, style, f"{split}, {arm}")
        axis.set(xlabel="epoch", ylabel=quantity)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[1].legend()
    figure.suptitle(
        f"cnn on {study.train_examples} examples of {study.dataset}: mean and range of "
        f"{study.seeds} seeds"
    )
    figure.savefig(path, dpi=120)


def plot_gradients(measurements: list[Measurement], path: Path) -> None:
    """Plot each layer's gradient norm over training, one row of axes per network."""
    models = models_of(measurements)
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(len(models), 2, sharex=True, sharey="row")
    for model, pair in zip(models, axes):
        for axis, arm in zip(pair, ARMS):
            plot_layers(axis, measurements, model, arm)
        pair[0].set_ylabel("gradient norm")
        pair[1].legend(fontsize="x-small", ncols=2)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    figure.savefig(path, dpi=120)


def plot_layers(
    axis: Axes, measurements: list[Measurement], model: str, arm: str
) -> None:
    """Plot one network's gradient norms, with darker lines for earlier layers."""
    names = layers_of(measurements, model)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
    for name, colour in zip(names, colours):
        values = curves(measurements, model, arm, f"gradient {name}")
        plot_band(axis, values, colour, "-", name)
    axis.set(title=f"{model}, {arm}", yscale="log")
    axis.grid(alpha=0.3)


def plot_band(
    axis: Axes,
    values: Float[np.ndarray, "seeds epochs"],
    colour: str | Float[np.ndarray, "4"],
    style: str,
    label: str,
) -> None:
    """Plot the mean over seeds, with the range over seeds as a band."""
    epochs = np.arange(1, values.shape[1] + 1)
    axis.plot(epochs, values.mean(0), style, color=colour, label=label)
    axis.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15)
