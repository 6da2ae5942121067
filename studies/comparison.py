"""The table of a study: each arm's measures and its differences to the first arm."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from studies.outcomes import correctly_classified
from studies.statistics import (
    Estimate,
    Test,
    crossed_bootstrap,
    holm,
    interval,
    mcnemar,
    paired_t,
)


class Quantity(NamedTuple):
    """A measure in a table, with its column in the results, its factor and digits."""

    name: str
    column: str
    scale: float = 1.0
    digits: int = 2


QUANTITIES = (
    Quantity("test error, %", "test_error", 100),
    Quantity("train-test gap, %", "gap", 100),
    Quantity("NLL", "nll", digits=4),
    Quantity("ECE, %", "ece", 100),
)
TIMES = (
    Quantity("epochs to target", "epochs_to_target"),
    Quantity("seconds to target", "seconds_to_target"),
)


class Line(NamedTuple):
    """A measure of one arm, compared with the first arm.

    Attributes:
        seeds: the number of seeds with the measure; not all may reach a target.
        of: the number of seeds of the arm.
        value: the mean and its interval over seeds; None if no seed has the measure.
        test: the paired difference to the first arm; None for the first arm itself.
        corrected: the p-value of `test` after Holm's correction over the arms.
        examples: the p-value over seeds and test examples (McNemar's test with one
            seed), where known.
    """

    quantity: Quantity
    arm: str
    seeds: int
    of: int
    value: Estimate | None
    test: Test | None = None
    corrected: float | None = None
    examples: float | None = None


def compare(table: pl.DataFrame, directory: Path) -> list[Line]:
    """Return the lines of a study's table by quantity, starting with the first arm."""
    arms = table["arm"].unique(maintain_order=True).to_list()
    reached = table["epochs_to_target"].is_not_null().any()
    return [
        line
        for quantity in QUANTITIES + (TIMES if reached else ())
        for line in _compare_quantity(table, arms, quantity, directory)
    ]


def _compare_quantity(
    table: pl.DataFrame, arms: list[str], quantity: Quantity, directory: Path
) -> list[Line]:
    lines = [_line(table, arms[0], arm, quantity) for arm in arms]
    tested = [line for line in lines if line.test]
    corrected = iter(holm([line.test.p for line in tested if line.test]))
    lines = [
        line._replace(corrected=next(corrected)) if line.test else line
        for line in lines
    ]
    if quantity.column != "test_error":
        return lines
    return [
        line._replace(examples=_over_examples(table, arms[0], line.arm, directory))
        for line in lines
    ]


def _line(table: pl.DataFrame, first: str, arm: str, quantity: Quantity) -> Line:
    rows = table.filter(arm=arm)
    values = rows[quantity.column].drop_nulls().to_numpy() * quantity.scale
    value = interval(values) if len(values) else None
    line = Line(quantity, arm, len(values), len(rows), value)
    both = paired(table, first, arm, quantity.column)
    if arm == first or not len(both):
        return line
    return line._replace(test=paired_t((both[:, 1] - both[:, 0]) * quantity.scale))


def paired(table: pl.DataFrame, first: str, arm: str, column: str) -> np.ndarray:
    """Return a measure of two arms at the seeds where both have it: (seeds, 2)."""
    one, other = (
        table.filter(pl.col("arm") == name, pl.col(column).is_not_null()).select(
            "seed", column
        )
        for name in (first, arm)
    )
    return one.join(other, on="seed", suffix="_other").sort("seed").to_numpy()[:, 1:]


def _over_examples(
    table: pl.DataFrame, first: str, arm: str, directory: Path
) -> float | None:
    last = table.filter(stop="last")
    runs = paired(last, first, arm, "run")
    if arm == first or not len(runs):
        return None
    right = [
        np.stack([correctly_classified(directory / str(run)) for run in column])
        for column in runs.T
    ]
    if len(runs) == 1:
        return mcnemar(right[0][0], right[1][0])
    return crossed_bootstrap(*right).p


HEADER = ("arm", "mean", "difference", "p", "p, Holm", "p, examples")


def cells(lines: list[Line]) -> dict[str, list[tuple[str, ...]]]:
    """Return the text of the table, one row per arm for each quantity."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        found.setdefault(line.quantity.name, []).append(_row(line))
    return found


def _row(line: Line) -> tuple[str, ...]:
    digits = line.quantity.digits
    count = f" ({line.seeds}/{line.of})" if line.seeds < line.of else ""
    return (
        line.arm,
        _optional(line.value, lambda value: _estimate(value, digits, "")) + count,
        _optional(line.test, lambda test: _estimate(test.difference, digits, "+")),
        _optional(line.test, lambda test: p_text(test.p)),
        _optional(line.corrected, p_text),
        _optional(line.examples, p_text),
    )


def _optional(value, text: Callable[..., str]) -> str:
    return "-" if value is None else text(value)


def _estimate(value: Estimate, digits: int, sign: str) -> str:
    mean = f"{value.mean:{sign}.{digits}f}"
    half = value.high - value.mean
    return f"{mean} ± {half:.{digits}f}" if np.isfinite(half) else mean


def p_text(p: float) -> str:
    """Return a p-value as text with two digits, or `<0.0001`."""
    return f"{p:.2g}" if p >= 0.0001 else "<0.0001"


NOTE = (
    "±: 95 % interval over seeds (Student's t). Difference: to the first arm, paired "
    "by seed; p: paired t; Holm: corrected over the arms of one measure. p, examples: "
    "over seeds and test examples (crossed bootstrap; McNemar's exact with one seed). "
    "(5/8): five of eight seeds reach the target; the mean is theirs."
)


def conclusion(lines: list[Line]) -> list[str]:
    """Return a sentence for each arm on whether its error differs from the first's."""
    first = lines[0].arm
    return [
        f"{line.arm}: {_verdict(line)} {first}"
        for line in lines
        if line.quantity.column == "test_error" and line.test
    ]


def _verdict(line: Line) -> str:
    assert line.test and line.corrected is not None
    difference = f"{_estimate(line.test.difference, 2, '+')} points"
    p = p_text(line.corrected)
    found = f"{difference}, Holm's p {p if p[0] == '<' else f'= {p}'}"
    if line.corrected >= 0.05:
        return f"no difference in test error found ({found}) to"
    word = "lower" if line.test.difference.mean < 0 else "higher"
    return f"{word} test error ({found}) than"
