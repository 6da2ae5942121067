"""Metrics against scikit-learn, loops that follow the definitions, and known cases."""

import warnings
from itertools import permutations

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import binom, entropy
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from evaluation import measures

RANDOM = np.random.default_rng(3)
CLASSES, SAMPLES, EXAMPLES = 5, 7, 400
SAMPLED = log_softmax(RANDOM.normal(0, 2, (SAMPLES, EXAMPLES, CLASSES)), axis=-1)
PREDICTED = measures.averaged(SAMPLED)
PROBABILITIES = np.exp(PREDICTED)
# Right somewhat more often than the predictions claim.
LABELS = np.where(
    RANDOM.random(EXAMPLES) < 0.3,
    PREDICTED.argmax(-1),
    [RANDOM.choice(CLASSES, p=row / row.sum()) for row in PROBABILITIES],
)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_accuracy_likelihood_and_brier_score_are_scikit_learns():
    close(
        measures.accuracy(PREDICTED, LABELS),
        accuracy_score(LABELS, PROBABILITIES.argmax(-1)),
    )
    close(
        measures.negative_log_likelihood(PREDICTED, LABELS),
        log_loss(LABELS, PROBABILITIES, labels=range(CLASSES)),
    )
    close(
        measures.brier_score(PREDICTED, LABELS),
        brier_score_loss(
            LABELS, PROBABILITIES, labels=range(CLASSES), scale_by_half=False
        ),
    )


def test_the_likelihood_of_what_is_thought_impossible_is_not_clipped():
    predicted = np.array([[-200.0, 0.0]])
    assert measures.negative_log_likelihood(predicted, np.array([0])) == 200


def test_averaging_is_of_probabilities():
    close(PROBABILITIES, np.exp(SAMPLED).mean(0))
    # Jensen: the mean of the logarithms is lower.
    assert (SAMPLED.mean(0) <= PREDICTED).all()


def by_bins(confidence, correct, edges):
    """sum_b (n_b / n) |accuracy_b - confidence_b|, bin by bin."""
    total, low = 0.0, -np.inf
    for high in (*edges, np.inf):
        inside = [i for i, c in enumerate(confidence) if low < c <= high]
        low = high
        if inside:
            gap = np.mean(correct[inside]) - np.mean(confidence[inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


def width_edges(_):
    return [number / 15 for number in range(1, 15)]


def mass_edges(confidence):
    return [np.percentile(confidence, 100 * number / 15) for number in range(1, 15)]


BINNINGS = [(measures.equal_width, width_edges), (measures.equal_mass, mass_edges)]


@pytest.mark.parametrize("edges, by_hand", BINNINGS)
def test_calibration_errors_are_their_definitions(edges, by_hand):
    confidence = PROBABILITIES.max(-1)
    correct = PROBABILITIES.argmax(-1) == LABELS
    close(
        measures.expected_calibration_error(PREDICTED, LABELS, edges),
        by_bins(confidence, correct, by_hand(confidence)),
    )
    of_classes = [
        by_bins(p, label == LABELS, by_hand(p))
        for label, p in enumerate(PROBABILITIES.T)
    ]
    close(
        measures.classwise_calibration_error(PREDICTED, LABELS, edges),
        np.mean(of_classes),
    )


def test_calibration_errors_of_known_cases():
    always = np.tile(np.log([1 - 1e-12, 1e-12]), (10, 1))
    labels = np.array([0] * 7 + [1] * 3)
    ece = measures.expected_calibration_error
    close(ece(always, labels), 0.3)
    close(ece(always, labels, measures.equal_mass), 0.3)
    honest = np.tile(np.log([0.7, 0.3]), (10, 1))
    assert ece(honest, labels) < 1e-9
    assert measures.classwise_calibration_error(honest, labels) < 1e-9
    # 1/3 and 2/3 are edges, and belong to the bin below.
    edge = np.log([[2 / 3, 1 / 3]])
    assert len(measures.reliability(edge, np.array([0]))) == 1


@pytest.mark.parametrize("edges, _", BINNINGS)
def test_calibration_does_not_depend_on_the_order(edges, _):
    rounded = np.log(np.round(PROBABILITIES, 1) + 0.01)  # ties
    order = np.random.default_rng(1).permutation(EXAMPLES)
    close(
        measures.expected_calibration_error(rounded, LABELS, edges),
        measures.expected_calibration_error(rounded[order], LABELS[order], edges),
    )


@pytest.mark.parametrize("edges, _", BINNINGS)
def test_reliability_bins_give_the_calibration_error(edges, _):
    confidence, correct, count = measures.reliability(PREDICTED, LABELS, edges).T
    assert count.sum() == EXAMPLES
    error = (count * abs(confidence - correct)).sum() / EXAMPLES
    close(measures.expected_calibration_error(PREDICTED, LABELS, edges), error)


def test_entropies_and_disagreement_by_loops():
    for example in range(20):
        samples = np.exp(SAMPLED[:, example])
        mean = samples.mean(0)
        total = -sum(p * np.log(p) for p in mean)
        each = np.mean([-sum(p * np.log(p) for p in sample) for sample in samples])
        votes = [list(samples.argmax(-1)).count(label) for label in range(CLASSES)]
        close(measures.entropy(PREDICTED)[example], total)
        close(measures.expected_entropy(SAMPLED)[example], each)
        close(measures.mutual_information(SAMPLED)[example], total - each)
        close(measures.variation_ratio(SAMPLED)[example], 1 - max(votes) / SAMPLES)


def test_two_certain_samples_that_disagree():
    samples = np.array([[[0.0, -np.inf]], [[-np.inf, 0.0]]])
    close(measures.entropy(measures.averaged(samples)), [np.log(2)])
    close(measures.expected_entropy(samples), [0.0])
    close(measures.mutual_information(samples), [np.log(2)])
    close(measures.variation_ratio(samples), [0.5])


def test_samples_that_agree_carry_no_information():
    samples = np.repeat(SAMPLED[:1], 4, axis=0)
    assert measures.mutual_information(samples).max() < 1e-12
    assert measures.variation_ratio(samples).max() == 0


def test_the_order_of_samples_changes_nothing():
    order = np.random.default_rng(1).permutation(SAMPLES)
    for measure in (measures.mutual_information, measures.variation_ratio):
        close(measure(SAMPLED[order]), measure(SAMPLED))


def test_risk_and_coverage_by_hand():
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    correct = np.array([True, False, True, False])
    coverage, risk = measures.risk_coverage(confidence, correct)
    close(coverage, [0.25, 0.5, 0.75, 1])
    close(risk, [0, 0, 1 / 3, 1 / 2])
    close(measures.area_under_risk_coverage(confidence, correct), (1 / 3 + 1 / 2) / 4)


def test_the_risk_among_ties_is_that_of_a_random_order():
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    correct = np.array([True, True, False, True, False])
    orders = []
    for middle in permutations([1, 2, 3]):
        wrong = ~correct[[0, *middle, 4]]
        orders.append(np.cumsum(wrong) / np.arange(1, 6))
    close(measures.risk_coverage(confidence, correct)[1], np.mean(orders, 0))


def test_auroc_counts_pairs():
    random = np.random.default_rng(1)
    inside, outside = random.normal(0, 1, 50).round(1), random.normal(1, 1, 30).round(1)
    pairs = [(o > i) + 0.5 * (o == i) for o in outside for i in inside]
    close(measures.out_of_distribution_auroc(inside, outside), np.mean(pairs))
    flags = [0] * 50 + [1] * 30
    close(np.mean(pairs), roc_auc_score(flags, [*inside, *outside]))


def test_temperature_scaling_undoes_a_temperature():
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (20_000, CLASSES))
    gumbel = random.gumbel(size=logits.shape)
    labels = (logits + gumbel).argmax(-1)  # drawn from softmax(logits)
    found = measures.fit_temperature(log_softmax(3 * logits, axis=-1)[None], labels)
    # The standard error of a temperature from 20,000 examples is about 0.03.
    assert abs(found - 3) < 0.1


def test_temperature_scaling_is_scikit_learns():
    features = RANDOM.normal(0, 1, (600, 4))
    labels = features @ RANDOM.normal(0, 1, (4, 3)) + RANDOM.gumbel(size=(600, 3))
    labels = labels.argmax(-1)
    model = LogisticRegression(C=1e3).fit(features[:60], labels[:60])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibrated = CalibratedClassifierCV(
            FrozenEstimator(model), method="temperature"
        ).fit(features, labels)
    theirs = 1 / calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    logits = log_softmax(model.decision_function(features), axis=-1)
    assert measures.fit_temperature(logits[None], labels) == pytest.approx(theirs, 1e-3)


def test_tempering_keeps_the_classes_and_never_worsens_the_fit():
    temperature = measures.fit_temperature(SAMPLED, LABELS)
    loss = measures.negative_log_likelihood
    tempered = measures.averaged(measures.temper(SAMPLED, temperature))
    assert loss(tempered, LABELS) <= loss(PREDICTED, LABELS)
    alone = measures.temper(PREDICTED, temperature)
    assert (alone.argmax(-1) == PREDICTED.argmax(-1)).all()
    close(measures.temper(PREDICTED, 1.0), PREDICTED)


def test_a_confidence_on_an_edge_is_in_the_bin_below():
    """Bins are (low, high]: the first edge is the smaller of two confidences."""
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9]])
    labels = np.array([1, 1])

    def edges(confidence):
        return np.sort(confidence)[:1]

    found = measures.reliability(np.log(probabilities), labels, edges)
    np.testing.assert_allclose(found, [[0.6, 0, 1], [0.9, 1, 1]], rtol=1e-6)
    error = measures.expected_calibration_error(np.log(probabilities), labels, edges)
    assert error == pytest.approx((0.6 + 0.1) / 2)


@pytest.mark.parametrize(("examples", "confidence"), [(360, 0.97), (50, 0.6)])
def test_the_floor_of_the_calibration_error_is_the_mean_gap_of_a_binomial(
    examples, confidence
):
    """All examples lie in one bin: E|k - n c| / n, k from Binomial(n, c), exactly."""
    rest = (1 - confidence) / 2
    row = np.log([confidence, rest, rest])
    found = measures.calibration_error_floor(np.tile(row, (examples, 1)))
    counts = np.arange(examples + 1)
    gaps = np.abs(counts / examples - confidence)
    chances = binom.pmf(counts, examples, confidence)
    exact = (gaps * chances).sum()
    spread = np.sqrt((gaps**2 * chances).sum() - exact**2)
    assert abs(found - exact) < 3 * spread / np.sqrt(measures.FLOOR_SAMPLES)


def test_the_floor_falls_with_the_square_root_of_the_examples():
    few = measures.calibration_error_floor(PREDICTED)
    many = measures.calibration_error_floor(np.tile(PREDICTED, (16, 1)))
    assert few / many == pytest.approx(4, rel=0.1)


def test_the_divergence_is_scipys():
    expected = entropy(PROBABILITIES, np.exp(SAMPLED[0]), axis=-1).mean()
    close(measures.kullback_leibler(PREDICTED, SAMPLED[0]), expected)
    sure = np.array([[0.0, -np.inf]])
    close(measures.kullback_leibler(sure, np.log([[0.5, 0.5]])), np.log(2))
