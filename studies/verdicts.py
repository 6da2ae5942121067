"""The text of a study's table: its cells, its note, and a sentence for each arm."""

from collections.abc import Callable

import numpy as np

from studies.comparison import TableLine
from studies.statistics import MOST_SEEDS, Estimate, seeds_needed

LEVEL = 0.05
AGAINST = "against"
HEADER = ("arm", "mean", "difference", "p", "p, Holm", "p, examples")


def header(lines: list[TableLine]) -> tuple[str, ...]:
    """Return the names of the columns; arms compared with several have one more."""
    return (*HEADER, AGAINST) if len(_references(lines)) > 1 else HEADER


def cells(lines: list[TableLine]) -> dict[str, list[tuple[str, ...]]]:
    """Return the text of the table, one row per arm for each quantity."""
    several = len(_references(lines)) > 1
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        extra = (line.versus or "-",) if several else ()
        found.setdefault(line.quantity.name, []).append((*_row(line), *extra))
    return found


def _references(lines: list[TableLine]) -> list[str]:
    return list(dict.fromkeys(line.versus for line in lines if line.versus))


def _row(line: TableLine) -> tuple[str, ...]:
    digits = line.quantity.digits
    count = f" ({line.seeds}/{line.of})" if line.seeds < line.of else ""
    return (
        line.arm,
        _optional(line.value, lambda value: _mean(line, value)) + count,
        _optional(line.test, lambda test: estimate(test.difference, digits, "+")),
        _optional(line.test, lambda test: p_text(test.p)),
        _optional(line.corrected, starred),
        _optional(line.examples, p_text),
    )


def _optional(value, text: Callable[..., str]) -> str:
    return "-" if value is None else text(value)


def _mean(line: TableLine, value: Estimate) -> str:
    digits = line.quantity.digits
    if not line.quantity.tested:
        return f"{value.mean:.{digits}f}"
    return estimate(value, digits, "")


def estimate(value: Estimate, digits: int, sign: str) -> str:
    """Return a mean and half of its interval as text; `sign` is "+" or empty."""
    mean = f"{value.mean:{sign}.{digits}f}"
    half = value.high - value.mean
    return f"{mean} ± {half:.{digits}f}" if np.isfinite(half) else mean


def p_text(p: float) -> str:
    """Return a p-value as text with two digits, or `<0.0001`."""
    return f"{p:.2g}" if p >= 0.0001 else "<0.0001"


def starred(p: float) -> str:
    """Return a corrected p-value as text, with a star if it is below 0.05."""
    return f"{p_text(p)} *" if p < LEVEL else p_text(p)


def note(lines: list[TableLine]) -> str:
    """Return what the columns of the table mean."""
    parts = ["±: 95 % interval over seeds (Student's t)."]
    references = _references(lines)
    if references:
        other = references[0] if len(references) == 1 else f"the arm under {AGAINST!r}"
        parts.append(
            f"Difference: to {other}, paired by seed; p: paired t; Holm: corrected "
            f"over the {lines[0].family} tests of this table, * below 0.05. "
            "p, examples: over seeds and test examples (crossed random effects; "
            "McNemar's exact test with one seed), not corrected."
        )
    if any(line.quantity.column == "ece_floor" for line in lines):
        parts.append(
            "ECE floor: what a perfect predictor has with as many test examples."
        )
    if any(line.quantity.name.startswith("epochs to target") for line in lines):
        parts.append(
            "(5/8): five of eight seeds reach the target. The others count with all "
            "epochs in the mean of epochs, and not in that of seconds."
        )
    return " ".join(parts)


def conclusion(lines: list[TableLine]) -> list[str]:
    """Return a sentence for each arm on whether its error differs from another's."""
    return [
        f"{line.arm}: {_verdict(line)}"
        for line in lines
        if line.quantity.column == "test_error" and line.test
    ]


def _verdict(line: TableLine) -> str:
    assert line.test and line.corrected is not None
    difference = f"{estimate(line.test.difference, 2, '+')} points"
    p = p_text(line.corrected)
    found = f"{difference}, Holm's p {p if p[0] == '<' else f'= {p}'}"
    equal = line.equal is not None and line.equal < LEVEL
    if line.corrected >= LEVEL:
        decided = f"equal within {line.margin:g} points" if equal else _undecided(line)
        return (
            f"no difference in test error found ({found}) to {line.versus}; {decided}"
        )
    word = "lower" if line.test.difference.mean < 0 else "higher"
    small = f", by less than {line.margin:g} points" if equal else ""
    return f"{word} test error ({found}) than {line.versus}{small}"


def _undecided(line: TableLine) -> str:
    """Return that nothing is decided, and how many seeds would decide."""
    if not line.deviation:
        return f"whether they differ by {line.margin:g} points is undecided"
    found = seeds_needed(line.deviation, line.margin, LEVEL / line.family)
    count = found if found < MOST_SEEDS else f"more than {MOST_SEEDS:,}"
    return (
        f"undecided: with this spread (paired deviation {line.deviation:.2f} points) "
        f"{count} seeds find a difference of {line.margin:g} points 4 times in 5"
    )
