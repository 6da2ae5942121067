"""The statistics of comparisons, by simulation: coverage, false alarms, power."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from studies.statistics import crossed_bootstrap, holm, interval, mcnemar, paired_t
from training.canonical import canonical
from training.data.batches import batches_from
from training.experiment import prepare, start_state
from training.population import make_member_evaluate, map_members, traced_members
from training.programs import compile_step
from training.scoring import scores_on


def z_score(count, total, share):
    return (count - total * share) / np.sqrt(total * share * (1 - share))


def synthetic(random, seeds, examples, effect, by_seed=0.0, by_example=0.0):
    """Right predictions of two arms, over seeds and shared, unequally hard examples.

    `by_seed` and `by_example` are how much the arms' difference varies with each.
    """
    hard = random.normal(0, 1, examples)
    arms = []
    for shift in (0.0, effect):
        seed = random.normal(0, by_seed, (seeds, 1))
        example = random.normal(0, by_example, examples)
        noise = random.normal(0, 0.3, (seeds, examples))
        arms.append(hard + seed + example + noise + shift > -1.5)
    return arms


@pytest.mark.parametrize("seeds", [3, 8])
def test_95_percent_intervals_hold_the_truth_95_times_in_100(seeds):
    random = np.random.default_rng(seeds)
    differences = random.normal(0.3, 2.0, (2000, seeds))
    found = [paired_t(row).difference for row in differences]
    held = sum(each.low <= 0.3 <= each.high for each in found)
    assert abs(z_score(held, 2000, 0.95)) < 3


@pytest.mark.parametrize("seeds", [3, 8])
def test_5_percent_of_null_studies_are_significant(seeds):
    """Errors of two equal arms, with the seed's own effect common to both."""
    random = np.random.default_rng(10 + seeds)
    common = random.normal(2.0, 1.0, (2000, seeds))
    first, second = common + random.normal(0, 0.2, (2, 2000, seeds))
    significant = sum(paired_t(row).p < 0.05 for row in second - first)
    assert abs(z_score(significant, 2000, 0.05)) < 3


def test_holm_keeps_the_error_of_a_whole_table_at_5_percent():
    random = np.random.default_rng(1)
    differences = random.normal(0, 1, (1000, 4, 6))
    p = [[paired_t(row).p for row in study] for study in differences]
    corrected = np.array([holm(study) for study in p])
    alarms = (corrected.min(1) < 0.05).sum()
    # Of four independent tests Holm's first step lets 1 - (1 - 0.05 / 4)^4 through.
    assert abs(z_score(alarms, 1000, 1 - (1 - 0.0125) ** 4)) < 3
    assert (np.array(p).min(1) < 0.05).mean() > 0.15


def test_holm_by_hand():
    np.testing.assert_allclose(
        holm([0.04, 0.01, 0.03, 0.5]), [0.09, 0.04, 0.09, 0.5], rtol=1e-12
    )
    assert holm([0.02]) == [0.02] and holm([]) == []


def test_equal_arms_differ_by_0_with_p_1():
    right = np.random.default_rng(0).random((4, 50)) < 0.9
    for found in (paired_t(np.zeros(4)), crossed_bootstrap(right, right)):
        assert found.difference == (0.0, 0.0, 0.0) and found.p == 1.0
    assert mcnemar(right[0], right[0]) == 1.0


def test_equal_differences_are_no_proof():
    """Two seeds that both gain one image: p is the sign test's, and the interval's."""
    found = paired_t(np.array([0.1 + 0.2, 0.3]))
    assert found.p == 0.5 and found.difference.low < 0 < found.difference.high
    for count in range(2, 9):
        found = paired_t(np.full(count, 0.3))
        assert found.p == 2 * 0.5**count
        assert (found.difference.low > 0) == (found.p < 0.05)


def test_one_seed_says_nothing_of_seeds():
    found = paired_t(np.array([0.3]))
    assert found.p == 1.0 and found.difference == (0.3, -np.inf, np.inf)
    assert interval(np.array([2.0])) == (2.0, -np.inf, np.inf)


def test_the_interval_and_the_p_value_agree():
    for row in np.random.default_rng(4).normal(0.5, 1, (200, 5)):
        found = paired_t(row)
        assert (found.p < 0.05) == (found.difference.low * found.difference.high > 0)


def test_mcnemar_is_the_sign_test_on_what_changed():
    first = np.array([True] * 20 + [False] * 12)
    second = first.copy()
    second[:3], second[20:31] = False, True
    assert mcnemar(first, second) == pytest.approx(
        2 * sum(stats.binom.pmf(k, 14, 0.5) for k in range(4))
    )


@pytest.mark.parametrize(
    "spread",
    [
        pytest.param((0.3, 0.0), marks=pytest.mark.slow),
        pytest.param((0.0, 0.8), marks=pytest.mark.slow),
        (0.2, 0.5),
    ],
)
def test_the_crossed_bootstrap_covers_other_seeds_and_other_examples(spread):
    """95 %, or more (it is conservative), less three standard errors of 200 studies."""
    random = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        found = crossed_bootstrap(*synthetic(random, 8, 150, 0.0, *spread)).difference
        held += found.low <= 0 <= found.high
    assert z_score(held, 200, 0.95) > -3


def test_the_crossed_bootstrap_sees_a_difference():
    first, second = synthetic(np.random.default_rng(3), 8, 1000, 0.5)
    found = crossed_bootstrap(first, second)
    assert found.p < 0.01 and found.difference.low > 0
    assert found.difference.mean == pytest.approx(second.mean() - first.mean())


@pytest.fixture(scope="module")
def tiny(small):
    """Two arms of one plan at five seeds, as one population of a tiny network."""
    config = replace(
        small, dataset="digits", model="mlp(widths=(24,))", mesh="members:1",
        dropout="fc*:bernoulli:0.5", train_examples=100, batch_size=25, epochs=10,
        learning_rate=0.002, seeds="0,1,2,3,4,0,1,2,3,4",
    )  # fmt: skip
    return prepare(canonical(config))


@pytest.mark.slow
def test_5_percent_of_null_studies_of_networks_are_significant(tiny):
    """400 studies of two arms of one plan, the key of their masks changed.

    All studies share their seeds' initialisation and data; given these, arms differ in
    nothing but fresh keys, so studies are independent and no difference is there. With
    a chance of 5 % each, 99.9 % of the time 7 to 36 of 400 are significant.
    """
    low, high = stats.binom.interval(0.999, 400, 0.05)
    assert low <= significant_studies(tiny, 400, traced_members(tiny)) <= high


@pytest.mark.slow
def test_studies_of_networks_see_a_rate_of_0_9(tiny):
    """The same with another rate in the second arm: far more than 5 % of 40."""
    members = traced_members(tiny)
    rates = members.rates.at[5:].set(0.9)
    found = significant_studies(tiny, 40, members._replace(rates=rates))
    assert found > stats.binom.isf(1e-9, 40, 0.05)


def significant_studies(experiment, count, members):
    """How many of `count` studies, each with fresh keys of the masks, find p < 0.05."""
    train = trainer(experiment, members)
    fresh = jax.jit(lambda study: jax.random.split(jax.random.key(study), 10))
    errors = np.array([train(fresh(study)) for study in range(count)])
    found = sum(paired_t(row).p < 0.05 for row in errors[:, 5:] - errors[:, :5])
    print(f"{found} of {count}; mean error {errors.mean():.3f}, spread", errors.std(0))
    return found


def trainer(experiment, members):
    """A function: keys of the masks, one a member -> each member's test error."""
    start, steps = start_state(experiment), experiment.timeline.total
    step, _ = compile_step(experiment, start)
    batches = [batch for batch, _ in zip(batches_from(experiment, 0), range(steps))]
    evaluate = make_member_evaluate(experiment.objective)
    mapped = partial(jax.jit(map_members(evaluate, experiment.mesh)), members)
    test = experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)

    def errors(keys):
        state = jax.tree.map(jax.numpy.copy, start)
        for batch in batches:
            state, _ = step(state, batch, members._replace(key=keys))
        scores = scores_on(experiment, mapped, state, test, ids)
        return [1 - each.accuracy for each in scores]

    return errors


def test_the_crossed_bootstrap_is_widened_for_few_seeds():
    """Of two seeds one gains all: resampled means are 0, 1/2, 1 with 1/4, 1/2, 1/4.

    So the outermost deviations are 1/2, times sqrt(2 / (2 - 1)).
    """
    first = np.zeros((2, 40), bool)
    second = np.repeat([[True], [False]], 40, axis=1)
    mean, low, high = crossed_bootstrap(first, second).difference
    expected = [0.5, 0.5 - np.sqrt(0.5), 0.5 + np.sqrt(0.5)]
    assert [mean, low, high] == pytest.approx(expected, abs=1e-6)
