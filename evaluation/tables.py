"""The table of an evaluation: the scores of one run by inference rule."""

from evaluation.scores import ScoresByName
from training.record.console import aligned

ABSENT = "-"  # Stands for a score that an inference rule does not have.


def table(rules: dict[str, ScoresByName]) -> list[str]:
    """Return a line for each score with a column for each inference rule."""
    rows = [
        [name, *(f"{s[name]:.5f}" if name in s else ABSENT for s in rules.values())]
        for name in score_names([rules])
    ]
    return aligned([["", *rules], *rows])


def score_names(results: list[dict[str, ScoresByName]]) -> list[str]:
    """Return all scores that any inference rule has, in order."""
    return list(
        dict.fromkeys(
            name for run in results for found in run.values() for name in found
        )
    )
