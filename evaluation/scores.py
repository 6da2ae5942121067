"""Scores of predictions: on a split, on other data, and under corruption."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dropout import named_key
from evaluation import measures
from evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from evaluation.inference import Predict
from evaluation.measures import Labels, PerExample, Samples
from evaluation.predictions import Part, Run, predict_part

ScoresByName = dict[str, float]
Severities = dict[str, dict[str, list[float]]]

SCORES: dict[str, Callable[..., float]] = {
    "accuracy": measures.accuracy,
    "negative log-likelihood": measures.negative_log_likelihood,
    "Brier score": measures.brier_score,
    "ECE, equal width": measures.expected_calibration_error,
    "ECE, equal mass": partial(
        measures.expected_calibration_error, edges=measures.equal_mass
    ),
    "class-wise ECE": measures.classwise_calibration_error,
    "adaptive ECE": partial(
        measures.classwise_calibration_error, edges=measures.equal_mass
    ),
}
FLOOR = "ECE, equal width, of a perfect predictor"
REFERENCE = "mc"
DIVERGENCE = f"divergence from {REFERENCE}"
TEMPERED = ("negative log-likelihood", "Brier score", "ECE, equal width")
UNCERTAINTIES: dict[str, Callable[[Samples], PerExample]] = {
    "predictive entropy": lambda samples: measures.entropy(measures.averaged(samples)),
    "expected entropy": measures.expected_entropy,
    "mutual information": measures.mutual_information,
    "variation ratio": measures.variation_ratio,
}


def score(samples: Samples, labels: Labels) -> ScoresByName:
    """Return all scores, and the mean uncertainties, of predictions with labels."""
    predicted = measures.averaged(samples)
    correct = predicted.argmax(-1) == labels
    confidence = np.exp(predicted.max(-1))
    return {
        **{name: function(predicted, labels) for name, function in SCORES.items()},
        FLOOR: measures.calibration_error_floor(predicted),
        "AURC": measures.area_under_risk_coverage(confidence, correct),
        **{
            name: float(uncertainty(samples).mean())
            for name, uncertainty in UNCERTAINTIES.items()
        },
    }


def score_divergence(by_inference: dict[str, Samples]) -> dict[str, ScoresByName]:
    """Return how far each inference rule is from the mean over masks.

    It is the Kullback-Leibler divergence KL(mc || rule) in nats, averaged over
    examples; without `mc` among the inference rules there is none.
    """
    if REFERENCE not in by_inference:
        return {rule: {} for rule in by_inference}
    reference = measures.averaged(by_inference[REFERENCE])
    return {
        rule: {
            DIVERGENCE: measures.kullback_leibler(reference, measures.averaged(samples))
        }
        for rule, samples in by_inference.items()
    }


def score_tempered(
    samples: Samples, labels: Labels, held: Samples, held_labels: Labels
) -> ScoresByName:
    """Return the scores after temperature scaling, fitted on held-out examples."""
    temperature = measures.fit_temperature(held, held_labels)
    tempered = measures.averaged(measures.temper(samples, temperature))
    return {
        "temperature": temperature,
        **{f"{name}, tempered": SCORES[name](tempered, labels) for name in TEMPERED},
    }


def score_outside(inside: Samples, outside: Samples) -> ScoresByName:
    """Return how well each uncertainty detects examples of another data set.

    Uncertainties that measure disagreement between samples are left out if there is a
    single sample.
    """
    found = {}
    for name, uncertainty in UNCERTAINTIES.items():
        values = uncertainty(inside), uncertainty(outside)
        if any(part.any() for part in values):
            found[f"AUROC by {name}"] = measures.out_of_distribution_auroc(*values)
    return found


def score_corrupted(
    run: Run, predict: Predict, part: Part, clean: Samples, names: list[str]
) -> Severities:
    """Return the scores of each corruption at severities 0 (`clean`) to 5."""
    return {
        name: _scores_by_severity(
            [clean, *_corrupted_samples(run, predict, part, name)], part.labels
        )
        for name in names
    }


def _corrupted_samples(
    run: Run, predict: Predict, part: Part, name: str
) -> list[Samples]:
    key = named_key(run.experiment.keys["data"], "corruptions")
    clean = part.images[:]  # Read once, where they are streamed.
    limits = (float(clean.min()), float(clean.max()))
    ids = jnp.asarray(part.ids)
    samples = []
    for severity in SEVERITIES:
        images = corrupt(name, severity, key, clean, ids, *limits)
        corrupted = part._replace(images=np.asarray(images))
        samples.append(predict_part(run, predict, corrupted))
    return samples


def _scores_by_severity(
    samples: list[Samples], labels: Labels
) -> dict[str, list[float]]:
    predicted = [measures.averaged(each) for each in samples]
    return {
        name: [function(each, labels) for each in predicted]
        for name, function in SCORES.items()
    }


def parse_corruptions(text: str) -> list[str]:
    """Return the corruptions that a flag names, or all of them.

    Raises:
        ValueError: a corruption does not exist.
    """
    names = list(CORRUPTIONS) if text == "all" else [n for n in text.split(",") if n]
    for name in names:
        if name not in CORRUPTIONS:
            raise ValueError(
                f"--corruptions={name}: expected all, or some of "
                f"{', '.join(CORRUPTIONS)}."
            )
    return names


def errors_by_samples(
    samples: Samples, labels: Labels, counts: list[int], orders: int
) -> Float[np.ndarray, "orders counts 2"]:
    """Return error and negative log-likelihood of the first k samples, averaged.

    The values of k are `counts`. Each row of the result has its own random order of the
    samples.
    """
    random = np.random.default_rng(0)
    probabilities = np.exp(samples)
    return np.asarray(
        [
            _errors_in_order(
                probabilities[random.permutation(len(samples))], labels, counts
            )
            for _ in range(orders)
        ]
    )


def _errors_in_order(
    probabilities: Float[np.ndarray, "samples n classes"],
    labels: Labels,
    counts: list[int],
) -> list[tuple[float, float]]:
    total, done, errors = np.zeros(probabilities.shape[1:]), 0, []
    for count in counts:
        total = total + probabilities[done:count].sum(0)
        done = count
        predicted = np.log(np.maximum(total / count, np.finfo(np.float32).tiny))
        wrong = 1 - measures.accuracy(predicted, labels)
        errors.append((wrong, measures.negative_log_likelihood(predicted, labels)))
    return errors
