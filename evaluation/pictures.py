"""Pictures of an evaluation: calibration, uncertainty, sampling error, robustness."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation import measures as metrics
from evaluation.measures import Samples
from evaluation.predictions import Images, Labels, Severities, errors_by_samples

COLOURS: dict[str, str] = dict(
    zip(
        ("plain", "scaling", "pooling", "mc", "shared_mc", "gaussian"),
        ("tab:gray", "tab:orange", "tab:green", "tab:blue", "tab:purple", "tab:red"),
        strict=True,
    )
)
TITLES = {
    "reliability": "Accuracy against confidence",
    "risk-coverage": "Error among the most confident examples",
    "uncertain": "The most uncertain test images",
    "samples": "Error and likelihood by number of samples",
    "rotation": "A turned test image",
    "entropy": "Uncertainty in and out of distribution",
    "corruptions": "Accuracy and calibration under corruption",
}
CORRUPTED_SCORES = ("accuracy", "ECE, equal width")
ORDERS = 20
SHOWN = 24


class Answers(NamedTuple):
    """What each rule answers to the same labelled images."""

    images: Images
    labels: Labels
    by_rule: dict[str, Samples]


def reliability(answers: Answers) -> Figure:
    """Accuracy against confidence in each bin, and where the confidence lies."""
    count = len(answers.by_rule)
    figure = Figure(figsize=(1 + 3.1 * count, 4.2), layout="constrained")
    grid = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (rule, samples), above, below in zip(answers.by_rule.items(), *grid):
        predicted = metrics.averaged(samples)
        bins = metrics.reliability(predicted, answers.labels)
        confidence, accuracy, _ = bins.T
        above.plot((0, 1), (0, 1), color="black", linewidth=0.8)
        above.vlines(confidence, confidence, accuracy, color="tab:red", alpha=0.6)
        above.plot(confidence, accuracy, "o-", color=COLOURS[rule], markersize=4)
        error = metrics.expected_calibration_error(predicted, answers.labels)
        above.set_title(f"{rule}: ECE {error:.4f}", fontsize=10)
        edges = np.linspace(0, 1, metrics.BINS + 1)
        below.hist(np.exp(predicted.max(-1)), edges, color=COLOURS[rule])
        below.set(xlabel="confidence", yscale="log")
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("examples")
    return figure


def risk_coverage(answers: Answers) -> Figure:
    """The error among the most confident examples, against how many are answered."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    for rule, samples in answers.by_rule.items():
        predicted = metrics.averaged(samples)
        correct = predicted.argmax(-1) == answers.labels
        confidence = np.exp(predicted.max(-1))
        coverage, risk = metrics.risk_coverage(confidence, correct)
        area = metrics.area_under_risk_coverage(confidence, correct)
        label = f"{rule}: AURC {area:.2e}"
        axes.plot(coverage, risk, color=COLOURS[rule], label=label)
    axes.set(xlabel="fraction answered, the most confident first", ylabel="error")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def error_by_samples(answers: Answers, sampled: str) -> Figure:
    """Error and likelihood of a sampled rule by number of samples; others as lines.

    After Srivastava et al. 2014, figure 11.
    """
    samples = answers.by_rule[sampled]
    counts = sorted({*np.geomspace(1, len(samples), 16).round().astype(int).tolist()})
    found = errors_by_samples(samples, answers.labels, counts, ORDERS)
    figure = Figure(figsize=(10, 4), layout="constrained")
    names = ("test error", "negative log-likelihood")
    for index, (axes, name) in enumerate(zip(figure.subplots(1, 2), names)):
        values = found[..., index]
        mean, spread = values.mean(0), values.std(0)
        label = f"{sampled}, mean and deviation over {ORDERS} orders"
        axes.errorbar(counts, mean, spread, color=COLOURS[sampled], label=label)
        for rule, others in answers.by_rule.items():
            if len(others) == 1:
                predicted = metrics.averaged(others)
                value = (
                    1 - metrics.accuracy(predicted, answers.labels),
                    metrics.negative_log_likelihood(predicted, answers.labels),
                )[index]
                axes.axhline(value, color=COLOURS[rule], linestyle="--", label=rule)
        axes.set(xlabel="samples averaged", ylabel=name, xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    return figure


def entropies(inside: Samples, outside: Samples, names: tuple[str, str]) -> Figure:
    """How the uncertainties are spread on the run's test set and on another."""
    measures: dict[str, Callable] = {
        "predictive entropy": lambda samples: metrics.entropy(
            metrics.averaged(samples)
        ),
        "mutual information": metrics.mutual_information,
    }
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, (measure, of) in zip(figure.subplots(1, 2), measures.items()):
        values = of(inside), of(outside)
        edges = np.linspace(0, max(part.max() for part in values) + 1e-6, 41)
        for part, name, colour in zip(values, names, ("tab:blue", "tab:orange")):
            weights = np.full(len(part), 1 / len(part))
            axes.hist(part, edges, weights=weights, alpha=0.6, color=colour, label=name)
        auroc = metrics.out_of_distribution_auroc(*values)
        axes.set(xlabel=f"{measure} (nats)", yscale="log")
        axes.set_title(f"AUROC {auroc:.3f}", fontsize=10)
    figure.axes[0].set_ylabel("fraction of examples")
    figure.axes[0].legend()
    return figure


def rotated(
    images: Float[np.ndarray, "angles h w c"],
    degrees: Float[np.ndarray, " angles"],
    samples: Samples,
) -> Figure:
    """Class probabilities of every sample while an image turns.

    After Gal & Ghahramani 2016, figure 4.
    """
    probabilities = np.exp(samples)
    likely = probabilities.mean(0).max(0).argsort()[::-1][:4]
    figure = Figure(figsize=(1 + 0.8 * len(images), 4.6), layout="constrained")
    axes = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(likely))
    for number, (label, offset) in enumerate(zip(likely, offsets)):
        colour = f"C{number}"
        points = probabilities[..., label]
        places = np.broadcast_to(np.arange(len(images)) + offset, points.shape)
        axes.plot(places, points, "_", color=colour, alpha=0.3, markersize=9)
        axes.plot(places[0], points.mean(0), "o", color=colour, label=f"class {label}")
    axes.set(ylabel="probability", xlim=(-0.6, len(images) - 0.4), ylim=(-0.03, 1.03))
    axes.set_xticks(range(len(images)), [f"{angle:.0f}°" for angle in degrees])
    figure.legend(fontsize="small", loc="outside right center")
    axes.set_title(f"{len(samples)} samples, and their means as dots", fontsize=10)
    for place, image in enumerate(images):
        left = (place + 0.15) / len(images)
        _thumbnail(axes.inset_axes((left, 1.1, 0.7 / len(images), 0.16)), image)
    return figure


def most_uncertain(answers: Answers, rule: str) -> Figure:
    """The test images of the largest predictive entropy, and what was answered."""
    predicted = metrics.averaged(answers.by_rule[rule])
    entropy = metrics.entropy(predicted)
    columns = 8
    figure = Figure(figsize=(10, 5), layout="constrained")
    grid = figure.subplots(-(-SHOWN // columns), columns)
    for axes, example in zip(grid.flat, np.argsort(-entropy)[:SHOWN]):
        _thumbnail(axes, answers.images[example])
        guess, label = predicted[example].argmax(), answers.labels[example]
        colour = "black" if guess == label else "tab:red"
        text = f"{guess} ({np.exp(predicted[example].max()):.2f}), is {label}"
        axes.set_title(text, fontsize=8, color=colour)
    figure.suptitle(f"{rule}: largest predictive entropy; red where wrong", fontsize=10)
    return figure


def corrupted(lines: dict[str, list[Severities]]) -> Figure:
    """Accuracy and calibration error of each corruption against its severity.

    Args:
        lines: the scores of one run or several, by what the legend calls them: a rule,
            or a plan and a rule. Of several, the mean and the range are drawn.
    """
    names = list(next(iter(lines.values()))[0])
    columns = min(len(names), 6)
    rows = -(-len(names) // columns)
    size = (1 + 1.8 * columns, 0.9 + 3.4 * rows + 0.2 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2 * rows, columns, sharex=True, squeeze=False)
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        for axes, score in zip(grid[2 * row : 2 * row + 2, column], CORRUPTED_SCORES):
            _severities(axes, name, score, lines)
            if column == 0:
                axes.set_ylabel(score)
        grid[2 * row, column].set_title(name.replace("_", " "), fontsize=9)
    for axes in grid[::2, :].flat[len(names) :], grid[1::2, :].flat[len(names) :]:
        for empty in axes:
            empty.axis("off")
    figure.supxlabel("severity, 0: clean", fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", fontsize="small")
    return figure


def _severities(
    axes: Axes, name: str, score: str, lines: dict[str, list[Severities]]
) -> None:
    """One score of one corruption: a line for each label."""
    for number, (label, runs) in enumerate(lines.items()):
        values = np.asarray([run[name][score] for run in runs])
        colour = COLOURS[label] if label in COLOURS else f"C{number}"
        axes.plot(values.mean(0), color=colour, label=label, marker=".")
        low, high = values.min(0), values.max(0)
        axes.fill_between(range(len(low)), low, high, color=colour, alpha=0.2)
    axes.set(ylim=(0, 1.02), xticks=range(6))
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize="small")


def _thumbnail(axes: Axes, image: np.ndarray) -> None:
    scaled = image.astype(np.float32)
    scaled = (scaled - scaled.min()) / max(np.ptp(scaled), 1e-6)
    axes.imshow(scaled.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
