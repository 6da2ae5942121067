"""Measures of accuracy, calibration and uncertainty: functions of arrays.

Predictions are log-probabilities in NumPy, of shape (n, classes), or (samples, n,
classes) where a network predicts each example several times; `averaged` turns the
second into the first. All sums are in float64. AUROC comes from scikit-learn, and the
minimiser of temperature scaling from SciPy. The other measures are written here, since
scikit-learn's log loss clips probabilities near 0, its Brier score warns of float32
rounding, and it has no calibration errors and no risk-coverage curve. They are tested
against scikit-learn where it has the measure.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import entr, log_softmax, logsumexp

LogProbabilities = Float[np.ndarray, "n classes"]
Samples = Float[np.ndarray, "samples n classes"]
Labels = Int[np.ndarray, " n"]
PerExample = Float[np.ndarray, " n"]
Edges = Callable[[PerExample], Float[np.ndarray, " edges"]]

BINS = 15
FLOOR_SAMPLES = 200
TEMPERATURES = (0.02, 50.0)


def averaged(samples: Samples) -> LogProbabilities:
    """Return the log of the mean probability over samples, not the mean of the log."""
    return logsumexp(samples.astype(np.float64), axis=0) - np.log(len(samples))


def accuracy(log_probabilities: LogProbabilities, labels: Labels) -> float:
    """Return the fraction of examples whose most probable class is their label."""
    return float((log_probabilities.argmax(-1) == labels).mean())


def negative_log_likelihood(
    log_probabilities: LogProbabilities, labels: Labels
) -> float:
    """Return the mean of -log p(label), in nats."""
    of_labels = np.take_along_axis(log_probabilities, labels[:, None], -1)
    return float(-of_labels.astype(np.float64).mean())


def brier_score(log_probabilities: LogProbabilities, labels: Labels) -> float:
    """Return the mean over examples of sum_c (p_c - [c is the label])^2, in [0, 2]."""
    probabilities = _probabilities(log_probabilities)
    targets = np.eye(probabilities.shape[-1])[labels]
    return float(np.square(probabilities - targets).sum(-1).mean())


def equal_width(confidence: PerExample) -> Float[np.ndarray, " edges"]:
    """Return the inner edges of `BINS` bins of equal width over [0, 1]."""
    return np.linspace(0, 1, BINS + 1)[1:-1]


def equal_mass(confidence: PerExample) -> Float[np.ndarray, " edges"]:
    """Return the inner edges of `BINS` bins that hold about as many examples each.

    Equal confidences stay in one bin.
    """
    return np.quantile(confidence, np.linspace(0, 1, BINS + 1)[1:-1])


def expected_calibration_error(
    log_probabilities: LogProbabilities, labels: Labels, edges: Edges = equal_width
) -> float:
    """Return the mean gap between accuracy and confidence over binned examples.

    The formula is sum_b (n_b / n) |accuracy_b - confidence_b| over bins (low, high] of
    the largest probability (Guo et al. 2017, eq. 3).
    """
    return _calibration_gap(*_confidences(log_probabilities, labels), edges)


def calibration_error_floor(log_probabilities: LogProbabilities) -> float:
    """Return the mean calibration error of a perfect predictor with these confidences.

    Its predictions are right as often as they say, but few examples in a bin do not
    show it: the error is positive, and larger for fewer examples. It is the mean of
    `expected_calibration_error` over `FLOOR_SAMPLES` random choices of the examples
    that are right, with a fixed seed.
    """
    random = np.random.default_rng(0)
    confidence = _probabilities(log_probabilities).max(-1)
    return float(
        np.mean(
            [
                _calibration_gap(
                    confidence, random.random(len(confidence)) < confidence, equal_width
                )
                for _ in range(FLOOR_SAMPLES)
            ]
        )
    )


def kullback_leibler(
    log_probabilities: LogProbabilities, other: LogProbabilities
) -> float:
    """Return the mean over examples of sum_c p_c log(p_c / q_c), q being `other`.

    It is in nats, and 0 where a p_c is.
    """
    p = _probabilities(log_probabilities)
    difference = log_probabilities.astype(np.float64) - other.astype(np.float64)
    return float((p * np.where(p > 0, difference, 0.0)).sum(-1).mean())


def classwise_calibration_error(
    log_probabilities: LogProbabilities, labels: Labels, edges: Edges = equal_width
) -> float:
    """Return the calibration error of each class's probability, averaged over classes.

    This is the static calibration error of Nixon et al. 2019, eq. 3; with `equal_mass`
    it is their adaptive calibration error.
    """
    probabilities = _probabilities(log_probabilities)
    return float(
        np.mean(
            [
                _calibration_gap(probability, labels == label, edges)
                for label, probability in enumerate(probabilities.T)
            ]
        )
    )


def reliability(
    log_probabilities: LogProbabilities, labels: Labels, edges: Edges = equal_width
) -> Float[np.ndarray, "bins 3"]:
    """Return confidence, accuracy and number of examples of each non-empty bin."""
    confidence, correct = _confidences(log_probabilities, labels)
    inner = edges(confidence)
    bins = np.searchsorted(inner, confidence)
    sums = [
        np.bincount(bins, weights, len(inner) + 1) for weights in (confidence, correct)
    ]
    counts = np.bincount(bins, minlength=len(inner) + 1)
    filled = counts > 0
    means = [total[filled] / counts[filled] for total in sums]
    return np.stack([*means, counts[filled].astype(np.float64)], -1)


def entropy(
    log_probabilities: Float[np.ndarray, "*dims classes"],
) -> Float[np.ndarray, "*dims"]:
    """Return -sum_c p_c log p_c in nats.

    For averaged samples this is the predictive entropy.
    """
    return entr(_probabilities(log_probabilities)).sum(-1)


def expected_entropy(samples: Samples) -> PerExample:
    """Return the mean entropy of each sample's own probabilities, in nats."""
    return entropy(samples).mean(0)


def mutual_information(samples: Samples) -> PerExample:
    """Return the predictive minus the expected entropy: how much samples disagree.

    This is BALD (Houlsby et al. 2011, eq. 2), in [0, log(min(samples, classes))].
    """
    return np.maximum(entropy(averaged(samples)) - expected_entropy(samples), 0)


def variation_ratio(samples: Samples) -> PerExample:
    """Return the fraction of samples that do not vote for the class with most votes."""
    votes = np.eye(samples.shape[-1])[samples.argmax(-1)].sum(0)
    return 1 - votes.max(-1) / len(samples)


def risk_coverage(
    confidence: PerExample, correct: Bool[np.ndarray, " n"]
) -> tuple[PerExample, PerExample]:
    """Return coverages 1/n, ..., 1 and the error among the most confident examples.

    Among equally confident examples, the error is the mean over all their orders
    (El-Yaniv & Wiener 2010).
    """
    levels, level = np.unique(-confidence, return_inverse=True)
    wrong = np.bincount(level, ~correct, len(levels)) / np.bincount(level)
    count = np.arange(1, len(confidence) + 1)
    return count / len(count), np.cumsum(wrong[np.sort(level)]) / count


def area_under_risk_coverage(
    confidence: PerExample, correct: Bool[np.ndarray, " n"]
) -> float:
    """Return the mean risk over all coverages, AURC (Geifman et al. 2019)."""
    return float(risk_coverage(confidence, correct)[1].mean())


def out_of_distribution_auroc(
    inside: PerExample, outside: Float[np.ndarray, " others"]
) -> float:
    """Return how often an outside example scores higher than a test example (AUROC).

    0.5 is chance, and 1 is perfect separation.
    """
    # The import takes a second or more, and few callers need it.
    from sklearn.metrics import roc_auc_score

    is_outside = np.repeat([False, True], [len(inside), len(outside)])
    return float(roc_auc_score(is_outside, np.concatenate([inside, outside])))


def temper(
    log_probabilities: Float[np.ndarray, "*dims classes"], temperature: float
) -> Float[np.ndarray, "*dims classes"]:
    """Return the log-softmax of logits / temperature.

    Log-probabilities can be used as logits, since the two differ by a constant per
    example.
    """
    return log_softmax(log_probabilities.astype(np.float64) / temperature, axis=-1)


def fit_temperature(samples: Samples, labels: Labels) -> float:
    """Return the temperature within `TEMPERATURES` that maximises the likelihood.

    Each sample is tempered before the average is taken (Guo et al. 2017, section 4.2).
    """

    def loss(logarithm: float) -> float:
        tempered = averaged(temper(samples, float(np.exp(logarithm))))
        return negative_log_likelihood(tempered, labels)

    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _probabilities(
    log_probabilities: Float[np.ndarray, "*dims classes"],
) -> Float[np.ndarray, "*dims classes"]:
    return np.exp(log_probabilities.astype(np.float64))


def _confidences(
    log_probabilities: LogProbabilities, labels: Labels
) -> tuple[PerExample, Bool[np.ndarray, " n"]]:
    """Return the largest probability of each example, and whether it is right."""
    confidence = _probabilities(log_probabilities).max(-1)
    return confidence, log_probabilities.argmax(-1) == labels


def _calibration_gap(
    confidence: PerExample, correct: Bool[np.ndarray, " n"], edges: Edges
) -> float:
    bins = np.searchsorted(edges(confidence), confidence)
    # (n_b / n) |accuracy_b - confidence_b| = |sum over b of correct - confidence| / n.
    gaps = np.bincount(bins, correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))
