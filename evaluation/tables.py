"""Tables of an evaluation: the measures of one run by rule, and over runs."""

import numpy as np
from jaxtyping import Float

from evaluation.predictions import Measures
from studies.statistics import Estimate, interval, paired_t
from training.record.console import aligned

ABSENT = "-"  # in place of a measure that a rule does not have


def table(rules: dict[str, Measures]) -> list[str]:
    """A line for each measure, a column for each rule."""
    rows = [
        [name, *(f"{m[name]:.5f}" if name in m else ABSENT for m in rules.values())]
        for name in _names([rules])
    ]
    return aligned([["", *rules], *rows])


def over_runs(results: list[dict[str, Measures]]) -> list[str]:
    """Means with 95 % intervals over runs, and each rule less the first, in pairs."""
    rules = list(results[0])
    differences = [f"{rule} - {rules[0]}" for rule in rules[1:]]
    rows = [["", *rules, *differences, "runs below"]]
    for name in _names(results):
        values = {
            rule: np.asarray([run[rule][name] for run in results])
            for rule in rules
            if all(name in run[rule] for run in results)
        }
        rows.append([name, *_over_runs(rules, values)])
    return [f"{len(results)} runs: mean [95 % interval]", *aligned(rows)]


def _over_runs(
    rules: list[str], values: dict[str, Float[np.ndarray, " runs"]]
) -> list[str]:
    """The cells of one measure: every rule, every difference, and its signs."""
    first, *others = rules
    pairs = [
        values[rule] - values[first] if {rule, first} <= values.keys() else None
        for rule in others
    ]
    means = [
        _text(interval(values[rule])) if rule in values else ABSENT for rule in rules
    ]
    differences = [
        ABSENT if pair is None else _text(paired_t(pair).difference) for pair in pairs
    ]
    below = [
        ABSENT if pair is None else f"{(pair < 0).sum()}/{len(pair)}" for pair in pairs
    ]
    return [*means, *differences, ", ".join(below)]


def _names(results: list[dict[str, Measures]]) -> list[str]:
    """All measures that any rule has, in order."""
    return list(
        dict.fromkeys(
            name for run in results for found in run.values() for name in found
        )
    )


def _text(estimate: Estimate) -> str:
    return f"{estimate.mean:.5f} [{estimate.low:.5f}, {estimate.high:.5f}]"
