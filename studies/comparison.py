"""The numbers of a study's table: each arm's measures, compared with another arm's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from studies.outcomes import correctly_classified
from studies.statistics import (
    Estimate,
    Test,
    crossed_t,
    equivalence,
    holm,
    interval,
    mcnemar,
    paired_t,
)

MARGIN = 0.2  # In points of test error: the smallest difference that matters.
Versus = Mapping[str, str]


class Quantity(NamedTuple):
    """A measure in a table, with its column in the results, its factor and digits.

    Attributes:
        tested: whether it has intervals and tests, or is shown as a mean alone.
    """

    name: str
    column: str
    scale: float = 1.0
    digits: int = 2
    tested: bool = True


QUANTITIES = (
    Quantity("test error, %", "test_error", 100),
    Quantity("train-test gap, %", "gap", 100),
    Quantity("NLL", "nll", digits=4),
    Quantity("ECE, %", "ece", 100),
    Quantity("ECE floor, %", "ece_floor", 100, tested=False),
)
# Members of one program share its pace, so their seconds are not independent.
SECONDS = Quantity("seconds to target", "seconds_to_target", tested=False)


class TableLine(NamedTuple):
    """A measure of one arm, compared with another arm.

    Attributes:
        seeds: the number of seeds with the measure; not all may reach a target.
        of: the number of seeds of the arm.
        value: the mean and its interval over seeds; None if no seed has the measure.
        versus: the arm of the comparison; empty if there is none.
        test: the paired difference to that arm.
        deviation: the standard deviation of the paired differences.
        corrected: the p-value of `test` after Holm's correction over the table.
        family: the number of tests in the table.
        examples: the p-value over seeds and test examples (McNemar's test with one
            seed), where known.
        equal: the p-value of the claim that the errors differ by less than the
            margin, after Holm's correction over the arms.
        margin: that margin, in points of test error.
    """

    quantity: Quantity
    arm: str
    seeds: int
    of: int
    value: Estimate | None
    versus: str = ""
    test: Test | None = None
    deviation: float | None = None
    corrected: float | None = None
    family: int = 0
    examples: float | None = None
    equal: float | None = None
    margin: float = MARGIN


def first_arm(arms: Sequence[str]) -> Versus:
    """Return the comparison of all arms with the first."""
    return {arm: arms[0] for arm in arms[1:]}


def compare(
    table: pl.DataFrame, directory: Path, versus: Versus, margin: float = MARGIN
) -> list[TableLine]:
    """Return the lines of a study's table by quantity, each arm once in each.

    Args:
        table: the rows of the study.
        directory: where the records of its runs are.
        versus: by arm, the other arm with which it is compared.
        margin: the largest difference in test error that counts as equal, in points.
    """
    table, quantities = _with_times(table)
    arms = table["arm"].unique(maintain_order=True).to_list()
    lines = [
        _line(table, versus, arm, quantity) for quantity in quantities for arm in arms
    ]
    lines = [_with_error_tests(table, line, directory, margin) for line in lines]
    return _corrected(lines)


def _with_times(table: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Quantity, ...]]:
    """Add the epochs to the target up to those that all runs have, and return all.

    A seed that does not arrive counts with that number of epochs (a restricted mean),
    since leaving it out would favour the arm of which fewer arrive.
    """
    if not table["epochs_to_target"].is_not_null().any():
        return table, QUANTITIES
    most = float(np.min(table["epochs_followed"].drop_nulls().to_numpy()))
    reached = pl.col("epochs_to_target").fill_null(most).clip(upper_bound=most)
    name = f"epochs to target, at most {most:g}"
    return table.with_columns(restricted_epochs=reached), (
        *QUANTITIES,
        Quantity(name, "restricted_epochs"),
        SECONDS,
    )


def _line(
    table: pl.DataFrame, versus: Versus, arm: str, quantity: Quantity
) -> TableLine:
    rows = table.filter(arm=arm)
    times = quantity.column in ("restricted_epochs", SECONDS.column)
    having = rows["epochs_to_target"] if times else rows[quantity.column]
    values = rows[quantity.column].drop_nulls().to_numpy() * quantity.scale
    value = interval(values) if len(values) else None
    line = TableLine(quantity, arm, having.count(), len(rows), value)
    if not quantity.tested or arm not in versus:
        return line
    both = paired(table, versus[arm], arm, quantity.column) * quantity.scale
    if not len(both):
        return line
    gains = both[:, 1] - both[:, 0]
    deviation = float(gains.std(ddof=1)) if len(gains) > 1 else None
    return line._replace(versus=versus[arm], test=paired_t(gains), deviation=deviation)


def paired(table: pl.DataFrame, first: str, arm: str, column: str) -> np.ndarray:
    """Return a measure of two arms at the seeds where both have it: (seeds, 2)."""
    one, other = (
        table.filter(pl.col("arm") == name, pl.col(column).is_not_null()).select(
            "seed", column
        )
        for name in (first, arm)
    )
    return one.join(other, on="seed", suffix="_other").sort("seed").to_numpy()[:, 1:]


def _with_error_tests(
    table: pl.DataFrame, line: TableLine, directory: Path, margin: float
) -> TableLine:
    """Add what is tested on the test error alone: examples, and equivalence."""
    if line.quantity.column != "test_error" or not line.test:
        return line
    both = 100 * paired(table, line.versus, line.arm, "test_error")
    return line._replace(
        examples=_over_examples(table, line.versus, line.arm, directory),
        equal=equivalence(both[:, 1] - both[:, 0], margin) if len(both) > 1 else None,
        margin=margin,
    )


def _over_examples(
    table: pl.DataFrame, first: str, arm: str, directory: Path
) -> float | None:
    runs = paired(table.filter(stop="last"), first, arm, "run")
    if not len(runs):
        return None
    right = [
        np.stack([correctly_classified(directory / str(run)) for run in column])
        for column in runs.T
    ]
    if len(runs) == 1:
        return mcnemar(right[0][0], right[1][0])
    return crossed_t(*right).p


def _corrected(lines: list[TableLine]) -> list[TableLine]:
    """Return the lines with p-values after Holm's correction over all of them."""
    p = holm([line.test.p for line in lines if line.test])
    tests = iter(p)
    equal = iter(holm([line.equal for line in lines if line.equal is not None]))
    return [
        line._replace(
            corrected=next(tests) if line.test else None,
            equal=next(equal) if line.equal is not None else None,
            family=len(p),
        )
        for line in lines
    ]
