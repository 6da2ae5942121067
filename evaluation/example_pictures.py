"""Pictures of test images: a rotated one, and those with the largest uncertainty."""

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation import measures
from evaluation.measures import Samples
from evaluation.predictions import Predictions
from training.record.pictures import PAGE, PALETTE

SHOWN = 24
COLUMNS = 8
CLASSES = 4  # The most probable ones are plotted.


def plot_rotated(
    images: Float[np.ndarray, "angles h w c"],
    degrees: Float[np.ndarray, " angles"],
    samples: Samples,
) -> Figure:
    """Plot the class probabilities of every sample as an image rotates.

    The plot follows figure 4 of Gal & Ghahramani 2016.
    """
    probabilities = np.exp(samples)
    likely = probabilities.mean(0).max(0).argsort()[::-1][:CLASSES]
    figure = Figure(figsize=(PAGE, 3.3), layout="constrained")
    axes = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(likely))
    for number, (label, offset) in enumerate(zip(likely, offsets)):
        colour = PALETTE[number]
        points = probabilities[..., label]
        x = np.broadcast_to(np.arange(len(images)) + offset, points.shape)
        axes.plot(x, points, "_", color=colour, alpha=0.3, markersize=6)
        axes.plot(x[0], points.mean(0), "o", color=colour, label=f"class {label}")
    axes.set(ylabel="probability", xlim=(-0.6, len(images) - 0.4), ylim=(-0.03, 1.03))
    axes.set_xticks(range(len(images)), [f"{angle:.0f}°" for angle in degrees])
    figure.legend(loc="outside right center")
    axes.set_title(f"{len(samples)} samples, and their means as dots")
    for number, image in enumerate(images):
        left = (number + 0.15) / len(images)
        _thumbnail(axes.inset_axes((left, 1.1, 0.7 / len(images), 0.16)), image)
    return figure


def plot_most_uncertain(predictions: Predictions, inference: str) -> Figure:
    """Plot the test images with the largest predictive entropy, and the predictions."""
    predicted = measures.averaged(predictions.by_inference[inference])
    entropy = measures.entropy(predicted)
    figure = Figure(figsize=(PAGE, 3.7), layout="constrained")
    grid = figure.subplots(-(-SHOWN // COLUMNS), COLUMNS)
    for axes, example in zip(grid.flat, np.argsort(-entropy)[:SHOWN]):
        _thumbnail(axes, predictions.images[example])
        guess, label = predicted[example].argmax(), predictions.labels[example]
        colour = "black" if guess == label else PALETTE[1]
        text = f"{guess} ({np.exp(predicted[example].max()):.2f}), is {label}"
        axes.set_title(text, fontsize=6, color=colour)
    figure.suptitle(f"{inference}: largest predictive entropy; orange where wrong")
    return figure


def _thumbnail(axes: Axes, image: Num[np.ndarray, "h w c"]) -> None:
    scaled = image.astype(np.float32)
    scaled = (scaled - scaled.min()) / max(np.ptp(scaled), 1e-6)
    axes.imshow(scaled.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
