"""What is compared with what, what is corrected, and what is said of it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from studies.arms import parse_arms, parse_versus
from studies.comparison import compare
from studies.looks import LOOKS, look
from studies.statistics import holm, paired_t
from studies.tables import latex, markdown
from studies.verdicts import cells, conclusion
from training.canonical import canonical
from training.config import Config

BASE = canonical(Config())
NONE = (0.050, 0.052, 0.049, 0.051, 0.053, 0.050)
PLANS = "none; fc:bernoulli:0.5"
SIZES = "small --train_examples=200; large --train_examples=1000"


def table(**errors):
    """The rows of arms with these test errors, without a record of their runs."""
    return pl.DataFrame(
        [
            {"arm": arm, "run": "r", "stop": "best_validation", "seed": seed,
             "test_error": error, "gap": error / 2, "nll": 10 * error, "ece": None,
             "ece_floor": None, "epochs_to_target": None, "epochs_followed": 9.0,
             "seconds_to_target": None}
            for arm, found in errors.items() for seed, error in enumerate(found)
        ]
    )  # fmt: skip


def sentence(margin=0.2, **errors):
    """What is said of the only arm that is compared with `none`."""
    versus = {arm: "none" for arm in errors if arm != "none"}
    (said,) = conclusion(compare(table(**errors), Path(), versus, margin))
    return said


def test_the_first_arm_is_compared_with_unless_another_is_named():
    arms = parse_arms(BASE, "none; fc:bernoulli:0.5; fc:bernoulli:0.2", "")
    first, second, third = (arm.name for arm in arms)
    assert parse_versus("", arms) == {second: first, third: first}
    assert parse_versus(third, arms) == {first: third, second: third}


def test_a_plan_is_compared_within_each_block_of_flags():
    arms = parse_arms(BASE, PLANS, SIZES)
    assert parse_versus("none", arms) == {
        "fc:bernoulli:0.5 | small": "none | small",
        "fc:bernoulli:0.5 | large": "none | large",
    }
    assert parse_versus("small", arms) == {
        "none | large": "none | small",
        "fc:bernoulli:0.5 | large": "fc:bernoulli:0.5 | small",
    }


def test_an_arm_that_is_not_there_is_named_with_the_nearest():
    arms = parse_arms(BASE, PLANS, SIZES)
    with pytest.raises(ValueError, match="'smal'; did you mean 'small'"):
        parse_versus("smal", arms)


def test_several_references_have_a_column():
    random = np.random.default_rng(0)
    arms = {name: random.normal(0.05, 0.01, 4) for name in "abcd"}
    lines = compare(table(**arms), Path(), {"b": "a", "d": "c"})
    rows = cells(lines)["test error, %"]
    assert [row[-1] for row in rows] == ["-", "a", "-", "c"]
    assert "the arm under 'against'" in markdown(lines)


def test_holm_corrects_over_every_test_of_the_table():
    """Two arms by three measures, of which one is missing everywhere: six tests."""
    random = np.random.default_rng(1)
    arms = {name: random.normal(0.05, 0.01, 6) for name in ("none", "a", "b")}
    lines = compare(table(**arms), Path(), {"a": "none", "b": "none"})
    by_hand = [
        paired_t(scale * (arms[arm] - arms["none"])).p
        for scale in (100, 50, 10) for arm in "ab"
    ]  # fmt: skip
    found = [line.corrected for line in lines if line.test]
    assert found == pytest.approx(holm(by_hand), rel=1e-9)
    assert {line.family for line in lines} == {6}


def test_a_small_difference_that_is_sure_is_equal_within_the_margin():
    other = np.add(NONE, [1e-4, -1e-4, 2e-4, -2e-4, 1e-4, -1e-4])
    assert sentence(none=NONE, other=other).endswith("to none; equal within 0.2 points")
    assert "undecided" in sentence(margin=0.005, none=NONE, other=other)


def test_an_undecided_difference_says_how_many_seeds_decide():
    """A paired deviation of 0.2 points, and three tests: at the level 0.05 / 3.

    statsmodels' TTestPower gives 13.4 pairs for an effect of 1 at that level.
    """
    spread = np.array([1, -1, 1, -1, 1, -1]) * 0.002 * np.sqrt(5 / 6) + 0.001
    said = sentence(none=NONE, other=np.add(NONE, spread))
    assert "paired deviation 0.20 points) 14 seeds find a difference of 0.2" in said


def test_a_difference_below_the_margin_is_said_to_be_small():
    other = np.add(NONE, [4e-4, 5e-4, 6e-4, 5e-4, 5e-4, 5e-4])
    said = sentence(none=NONE, other=other)
    assert said.startswith("other: higher test error (+0.05")
    assert said.endswith("than none, by less than 0.2 points")


def test_seeds_that_never_arrive_count_with_all_epochs():
    """Restricted means by hand: 3, 5, 9 and 7 of at most 9, and 4, 9, 9 and 9."""
    rows = table(none=NONE[:4], other=NONE[:4]).with_columns(
        epochs_to_target=pl.Series([3.0, 5.0, None, 7.0, 4.0, None, None, None])
    )
    lines = compare(rows, Path(), {"other": "none"})
    first, second = [line for line in lines if line.quantity.name.startswith("epochs")]
    assert (first.value.mean, second.value.mean) == (6.0, 7.75)
    assert second.test.difference.mean == 1.75 and (second.seeds, second.of) == (1, 4)
    expected = paired_t(np.array([1.0, 4.0, 0.0, 2.0]))
    assert second.test == expected


def test_nothing_is_tested_on_seconds():
    rows = table(none=NONE, other=NONE).with_columns(
        epochs_to_target=2.0, seconds_to_target=pl.int_range(pl.len()) + 1.0
    )
    lines = compare(rows, Path(), {"other": "none"})
    seconds = [line for line in lines if line.quantity.name == "seconds to target"]
    assert len(seconds) == 2 and not any(line.test for line in seconds)


def test_the_latex_table_escapes_what_latex_reads():
    errors = {"none": NONE, "a_b & $50%$ {x} ~^\\": NONE}
    text = latex(compare(table(**errors), Path(), {}))
    assert r"a\_b \& \$50\%\$ \{x\} \textasciitilde{}\textasciicircum{}" in text
    assert r"\textbackslash{} &" in text and text.count(r"\begin{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.count(" & ") in (0, 5) for line in rows)


def test_a_second_look_with_more_seeds_is_remarked_upon(tmp_path):
    assert look(tmp_path, (0, 1, 2)) == () == look(tmp_path, (0, 1, 2))
    (said,) = look(tmp_path, (0, 1, 2, 3))
    assert "looked at 2 times, with 3, 4 seeds" in said
    (tmp_path / LOOKS).write_text("[3")
    with pytest.raises(ValueError, match=r"looks\.json is damaged"):
        look(tmp_path, (0,))
