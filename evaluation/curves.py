"""The numbers of the curves that an evaluation plots, as tables for other programs."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from evaluation import measures
from evaluation.measures import Samples
from evaluation.predictions import Predictions
from evaluation.scores import UNCERTAINTIES, errors_by_samples

ORDERS = 20  # The random orders in which samples are averaged.
MOST_COUNTS = 16
SHOWN = ("predictive entropy", "mutual information")


def sample_counts(samples: int) -> list[int]:
    """Return numbers of samples from 1 to all, about equally far apart by ratio."""
    counts = np.geomspace(1, samples, MOST_COUNTS).round().astype(int)
    return sorted(set(counts.tolist()))


def curves(
    predictions: Predictions, outside: dict[str, Samples]
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the name of each picture and the numbers of its curves, in long form.

    Args:
        predictions: those for the test examples, by inference rule.
        outside: those for the examples of another data set; may be empty.
    """
    yield "reliability", _joined(_reliability, predictions)
    yield "risk-coverage", _joined(_risk_coverage, predictions)
    yield "samples", _joined(_by_samples, predictions)
    if outside:
        inside = predictions.by_inference
        parts = [
            _uncertainties(rule, where, found[rule])
            for where, found in (("test", inside), ("outside", outside))
            for rule in found
        ]
        yield "entropy", pl.concat(parts)


def _joined(of, predictions: Predictions) -> pl.DataFrame:
    return pl.concat(
        [
            of(samples, predictions.labels).select(
                pl.lit(rule).alias("inference"), pl.all()
            )
            for rule, samples in predictions.by_inference.items()
        ]
    )


def _reliability(samples: Samples, labels: measures.Labels) -> pl.DataFrame:
    bins = measures.reliability(measures.averaged(samples), labels)
    return pl.DataFrame(bins, schema=["confidence", "accuracy", "examples"])


def _risk_coverage(samples: Samples, labels: measures.Labels) -> pl.DataFrame:
    predicted = measures.averaged(samples)
    confidence = np.exp(predicted.max(-1))
    correct = predicted.argmax(-1) == labels
    coverage, risk = measures.risk_coverage(confidence, correct)
    return pl.DataFrame({"coverage": coverage, "risk": risk})


def _by_samples(samples: Samples, labels: measures.Labels) -> pl.DataFrame:
    """Return error and likelihood of the first samples, over orders of all samples."""
    counts = sample_counts(len(samples))
    found = errors_by_samples(samples, labels, counts, ORDERS)
    mean, spread = found.mean(0), found.std(0)
    return pl.DataFrame(
        {
            "samples": counts,
            "error": mean[:, 0],
            "error_deviation": spread[:, 0],
            "nll": mean[:, 1],
            "nll_deviation": spread[:, 1],
        }
    )


def _uncertainties(rule: str, where: str, samples: Samples) -> pl.DataFrame:
    values = {name: UNCERTAINTIES[name](samples) for name in SHOWN}
    head = {"inference": rule, "examples": where}
    return pl.DataFrame(values).select(
        *(pl.lit(text).alias(name) for name, text in head.items()), pl.all()
    )
