"""Tables of an evaluation: the measures of one run by rule, and over runs."""

import numpy as np

from studies.evaluation import Measures
from studies.statistics import interval, paired_t
from training.report import aligned


def table(rules: dict[str, Measures]) -> list[str]:
    """A line for each measure, a column for each rule."""
    names = list(dict.fromkeys(name for found in rules.values() for name in found))
    rows = [[name, *(f"{rules[rule][name]:.5f}" for rule in rules)] for name in names]
    return aligned([["", *rules], *rows])


def over_runs(results: list[dict[str, Measures]]) -> list[str]:
    """Means with 95 % intervals over runs, and each rule less the first, in pairs."""
    rules, first = list(results[0]), next(iter(results[0]))
    others = [rule for rule in rules if rule != first]
    names = [
        name for name in results[0][first] if all(name in r[first] for r in results)
    ]
    rows = [["", *rules, *(f"{rule} - {first}" for rule in others), "runs below"]]
    for name in names:
        values = {rule: np.asarray([r[rule][name] for r in results]) for rule in rules}
        pairs = [values[rule] - values[first] for rule in others]
        below = [f"{(pair < 0).sum()}/{len(pair)}" for pair in pairs]
        estimates = [interval(values[rule]) for rule in rules]
        estimates += [paired_t(pair).difference for pair in pairs]
        texts = [f"{e.mean:.5f} [{e.low:.5f}, {e.high:.5f}]" for e in estimates]
        rows.append([name, *texts, ", ".join(below)])
    return [f"{len(results)} runs: mean [95 % interval]", *aligned(rows)]
