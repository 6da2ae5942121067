"""Pictures of scores: calibration, uncertainty, sampling error, robustness."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation import measures
from evaluation.curves import ORDERS, SHOWN, sample_counts
from evaluation.measures import Samples
from evaluation.predictions import Predictions
from evaluation.scores import UNCERTAINTIES, Severities, errors_by_samples
from training.record.pictures import COLUMN, PAGE, PALETTE

RULES = ("mc", "scaling", "pooling", "gaussian", "shared_mc", "plain")
COLOURS: dict[str, str] = dict(zip(RULES, PALETTE))
CORRUPTED_SCORES = ("accuracy", "ECE, equal width")


def plot_reliability(predictions: Predictions) -> Figure:
    """Plot accuracy against confidence in each bin, above a histogram of confidence."""
    count = len(predictions.by_inference)
    figure = Figure(figsize=(0.6 + 2.1 * count, 3.0), layout="constrained")
    grid = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (inference, samples), above, below in zip(
        predictions.by_inference.items(), *grid
    ):
        predicted = measures.averaged(samples)
        bins = measures.reliability(predicted, predictions.labels)
        confidence, accuracy, _ = bins.T
        above.plot((0, 1), (0, 1), color="black", linewidth=0.8)
        above.vlines(confidence, confidence, accuracy, color=PALETTE[1], alpha=0.6)
        above.plot(confidence, accuracy, "o-", color=COLOURS[inference], markersize=4)
        error = measures.expected_calibration_error(predicted, predictions.labels)
        above.set_title(f"{inference}: ECE {error:.4f}")
        edges = np.linspace(0, 1, measures.BINS + 1)
        below.hist(np.exp(predicted.max(-1)), edges, color=COLOURS[inference])
        below.set(xlabel="confidence", yscale="log")
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("examples")
    return figure


def plot_risk_coverage(predictions: Predictions) -> Figure:
    """Plot the error among the most confident examples against their share of all."""
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    for inference, samples in predictions.by_inference.items():
        predicted = measures.averaged(samples)
        correct = predicted.argmax(-1) == predictions.labels
        confidence = np.exp(predicted.max(-1))
        coverage, risk = measures.risk_coverage(confidence, correct)
        area = measures.area_under_risk_coverage(confidence, correct)
        label = f"{inference}: AURC {area:.2e}"
        axes.plot(coverage, risk, color=COLOURS[inference], label=label)
    axes.set(xlabel="coverage, the most confident first", ylabel="error")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def plot_error_by_samples(predictions: Predictions, sampled: str) -> Figure:
    """Plot error and likelihood of a sampled inference rule by number of samples.

    Inference rules with one sample are horizontal lines. The plot follows figure 11 of
    Srivastava et al. 2014.
    """
    samples = predictions.by_inference[sampled]
    counts = sample_counts(len(samples))
    found = errors_by_samples(samples, predictions.labels, counts, ORDERS)
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    names = ("test error", "negative log-likelihood")
    for index, (axes, name) in enumerate(zip(figure.subplots(1, 2), names)):
        values = found[..., index]
        mean, spread = values.mean(0), values.std(0)
        label = f"{sampled}, mean and deviation over {ORDERS} orders"
        axes.errorbar(counts, mean, spread, color=COLOURS[sampled], label=label)
        for inference, value in _single_sample_errors(predictions, index).items():
            axes.axhline(
                value, color=COLOURS[inference], linestyle="--", label=inference
            )
        axes.set(xlabel="samples averaged", ylabel=name, xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    return figure


def plot_entropies(inside: Samples, outside: Samples, names: tuple[str, str]) -> Figure:
    """Plot histograms of the uncertainties on the run's test set and on another."""
    figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), SHOWN):
        values = tuple(map(UNCERTAINTIES[name], (inside, outside)))
        edges = np.linspace(0, max(part.max() for part in values) + 1e-6, 41)
        for part, label, colour in zip(values, names, PALETTE[:2]):
            weights = np.full(len(part), 1 / len(part))
            axes.hist(
                part, edges, weights=weights, alpha=0.6, color=colour, label=label
            )
        auroc = measures.out_of_distribution_auroc(*values)
        axes.set(xlabel=f"{name} (nats)", yscale="log")
        axes.set_title(f"AUROC {auroc:.3f}")
    figure.axes[0].set_ylabel("fraction of examples")
    figure.axes[0].legend()
    return figure


def plot_corrupted(lines: dict[str, list[Severities]]) -> Figure:
    """Plot accuracy and calibration error of each corruption against its severity.

    Args:
        lines: the scores of one run or several, by their label in the legend, which is
            an inference rule, or a plan and an inference rule. If there are several
            runs, their mean and range are plotted.
    """
    names = list(next(iter(lines.values()))[0])
    columns = min(len(names), 6)
    rows = -(-len(names) // columns)
    size = (0.6 + 1.07 * columns, 0.6 + 2.2 * rows + 0.16 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2 * rows, columns, sharex=True, squeeze=False)
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        for axes, score in zip(grid[2 * row : 2 * row + 2, column], CORRUPTED_SCORES):
            _plot_severities(axes, name, score, lines)
            if column == 0:
                axes.set_ylabel(score)
        grid[2 * row, column].set_title(name.replace("_", " "))
    for axes in grid[::2, :].flat[len(names) :], grid[1::2, :].flat[len(names) :]:
        for empty in axes:
            empty.axis("off")
    figure.supxlabel("severity, 0: clean")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left")
    return figure


def _single_sample_errors(predictions: Predictions, index: int) -> dict[str, float]:
    """Return error (0) or likelihood (1) of the inference rules with one sample."""
    function = (
        lambda predicted, labels: 1 - measures.accuracy(predicted, labels),
        measures.negative_log_likelihood,
    )[index]
    return {
        inference: function(measures.averaged(samples), predictions.labels)
        for inference, samples in predictions.by_inference.items()
        if len(samples) == 1
    }


def _plot_severities(
    axes: Axes, name: str, score: str, lines: dict[str, list[Severities]]
) -> None:
    """Plot one score of one corruption: a line for each label."""
    for number, (label, runs) in enumerate(lines.items()):
        values = np.asarray([run[name][score] for run in runs])
        colour = COLOURS[label] if label in COLOURS else PALETTE[number % len(PALETTE)]
        axes.plot(values.mean(0), color=colour, label=label, marker=".")
        low, high = values.min(0), values.max(0)
        axes.fill_between(range(len(low)), low, high, color=colour, alpha=0.2)
    axes.set(ylim=(0, 1.02), xticks=range(6))
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize="small")
