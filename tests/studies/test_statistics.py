"""The statistics of comparisons, by simulation: coverage, false alarms, power."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from sampling import sampled
from scipy import stats

from studies.coverage import SEEDS, SPREADS, alarms_after_looks, simulate_study
from studies.statistics import (
    crossed_interval,
    crossed_t,
    equivalence,
    holm,
    interval,
    mcnemar,
    paired_t,
    seeds_needed,
)
from training.canonical import canonical
from training.data.batches import batches_from
from training.experiment import prepare
from training.population import make_member_evaluate, map_members, traced_members
from training.programs import compile_step
from training.scoring import scores_on
from training.start import start_state


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
    for found in (paired_t(np.zeros(4)), crossed_t(right, right)):
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


# Two arms of three seeds on twelve examples.
FIRST = ("111010111011", "011000111011", "111010101011")
SECOND = ("111111101011", "111111101111", "111111101011")


def rows(texts):
    return np.array([[letter == "1" for letter in text] for text in texts])


def test_the_crossed_interval_follows_from_the_mean_squares_of_statsmodels():
    """`anova_lm` of the gains: seeds 0.1944 (2), examples 0.6338 (11), rest 0.1035."""
    found = crossed_t(rows(FIRST), rows(SECOND))
    squares = np.array([0.19444444444444428, 0.6338383838383838 - 0.10353535353535355])
    quantiles = np.array([4.302652729911275, 2.200985160082949])
    half = np.sqrt((quantiles**2 * squares).sum() / 36)
    assert found.difference == pytest.approx((7 / 36, 7 / 36 - half, 7 / 36 + half))
    assert found.p > 0.05


def test_the_crossed_p_is_5_percent_where_the_interval_ends_at_0():
    """Gains of two seeds, moved until their interval ends at 0."""
    random = np.random.default_rng(2)
    gain = random.normal(0, 1, (4, 30))
    width = crossed_interval(gain)
    moved = gain - width.low
    assert crossed_interval(moved).low == pytest.approx(0, abs=1e-12)
    first, second = rows(FIRST), rows(SECOND)
    found = crossed_t(first, second)
    at_p = half_width((second * 1.0 - first), found.p)
    assert at_p == pytest.approx(found.difference.mean)


def half_width(gain, p):
    """The half-width of the interval of confidence 1 - p, by hand."""
    seeds, examples = gain.shape
    of_seeds, of_examples = gain.mean(1), gain.mean(0)
    rest = gain - of_seeds[:, None] - of_examples + gain.mean()
    residual = (rest**2).sum() / ((seeds - 1) * (examples - 1)) / seeds
    parts = [of_seeds.var(ddof=1) / seeds, (of_examples.var(ddof=1) - residual)]
    parts[1] = max(0, parts[1]) / examples
    quantiles = stats.t.isf(p / 2, [seeds - 1, examples - 1])
    return np.sqrt((quantiles**2 * parts).sum())


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_crossed_interval_is_never_narrower_than_that_over_seeds(seeds):
    random = np.random.default_rng(seeds)
    for spread in ((0.3, 0.0), (0.0, 0.8), (0.0, 0.0)):
        first, second = synthetic(random, seeds, 100, 0.2, *spread)
        of_seeds = paired_t(second.mean(1) - first.mean(1))
        found = crossed_t(first, second)
        assert found.difference.high >= of_seeds.difference.high - 1e-12
        assert found.p >= of_seeds.p - 1e-9


def test_one_seed_or_one_example_is_too_few_for_both():
    for shape in ((1, 9), (9, 1)):
        with pytest.raises(ValueError, match="expected 2 of each"):
            crossed_interval(np.ones(shape))


CELLS = [(varies, seeds) for varies in SPREADS for seeds in SEEDS]
FAST = ("seeds-2", "both-3", "examples-5")


@pytest.mark.parametrize("cell", sampled([f"{v}-{s}" for v, s in CELLS], FAST))
def test_the_crossed_interval_covers_other_seeds_and_other_examples(cell):
    """95 %, or more (it is conservative), less three standard errors of 300 studies."""
    varies, seeds = cell.split("-")
    random, held = np.random.default_rng(7), 0
    for _ in range(300):
        first, second = simulate_study(random, int(seeds), varies)
        found = crossed_interval(second * 1.0 - first)
        held += found.low <= 0 <= found.high
    assert z_score(held, 300, 0.95) > -3


def test_the_paired_t_over_seeds_speaks_of_these_examples_alone():
    """Where the arms differ by example, it covers other examples far too seldom."""
    random, held = np.random.default_rng(8), 0
    for _ in range(200):
        first, second = simulate_study(random, 8, "examples")
        found = interval(second.mean(1) - first.mean(1))
        held += found.low <= 0 <= found.high
    assert z_score(held, 200, 0.95) < -10


def test_the_crossed_t_sees_a_difference():
    first, second = synthetic(np.random.default_rng(3), 8, 1000, 0.5)
    found = crossed_t(first, second)
    assert found.p < 0.01 and found.difference.low > 0
    assert found.difference.mean == pytest.approx(second.mean() - first.mean())


DIFFERENCES = np.array([0.11, -0.05, 0.2, 0.07, 0.02, -0.12, 0.09, 0.15])


def test_equivalence_is_that_of_statsmodels():
    """`DescrStatsW(DIFFERENCES).ttost_mean(-margin, margin)`, recorded."""
    for margin, p in ((0.2, 0.003348054475503926), (0.1, 0.15176225091552048)):
        assert equivalence(DIFFERENCES, margin) == pytest.approx(p, rel=1e-10)
        assert equivalence(-DIFFERENCES, margin) == pytest.approx(p, rel=1e-10)


def test_equal_seeds_are_equal_only_as_the_sign_test_says():
    assert equivalence(np.zeros(4), 0.2) == 2**-4
    assert equivalence(np.full(5, 0.1), 0.2) == 2**-5
    assert equivalence(np.full(5, 0.3), 0.2) == 1
    assert equivalence(np.array([0.3]), 0.2) == 1
    for margin in (0.0, -0.2, float("nan")):
        with pytest.raises(ValueError, match="--margin"):
            equivalence(np.zeros(3), margin)


@pytest.mark.parametrize("seeds", [3, 8])
def test_a_difference_of_the_margin_is_called_equal_5_times_in_100(seeds):
    random = np.random.default_rng(20 + seeds)
    called = sum(
        equivalence(row, 0.2) < 0.05 for row in random.normal(0.2, 0.1, (2000, seeds))
    )
    assert abs(z_score(called, 2000, 0.05)) < 3


@pytest.mark.parametrize(
    ("deviation", "level", "pairs"),
    [(0.2, 0.05, 9.938), (0.35, 0.05, 26.023), (0.4, 0.05, 33.367),
     (0.1, 0.05, 4.221), (0.2, 0.05 / 12, 17.874), (0.35, 0.05 / 12, 46.207)],
)  # fmt: skip
def test_the_seeds_needed_are_those_of_statsmodels(deviation, level, pairs):
    """`TTestPower().solve_power(0.2 / deviation, power=0.8, alpha=level)`, recorded."""
    assert seeds_needed(deviation, 0.2, level) == np.ceil(pairs)


def test_the_seeds_needed_are_bounded():
    assert seeds_needed(1000.0, 0.2) == 4096 and seeds_needed(0.0, 0.2) == 2


def test_looking_after_each_seed_finds_too_much():
    """Of 300 null studies 5 % is 15; after six looks it is about 45."""
    assert z_score(300 * alarms_after_looks(300), 300, 0.05) > 5


@pytest.fixture(scope="module")
def tiny(small):
    """Two arms of one plan at five seeds, as one population of a tiny network."""
    config = replace(
        small, dataset="digits", model="mlp(widths=(24,))", mesh="members:1",
        dropout="fc*:bernoulli:0.5", train_examples=100, batch_size=25, epochs=10,
        learning_rate=0.002, seeds="0,1,2,3,4,0,1,2,3,4",
    )  # fmt: skip
    return prepare(canonical(config))


@pytest.mark.long
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
