"""The table of an evaluation: the scores of one run by inference rule."""

from evaluation.scores import ScoresByName
from training.record.console import aligned

ABSENT = "-"  # The cell of a score that an inference rule does not have.


def table(inferences: dict[str, ScoresByName]) -> list[str]:
    """Return a table with a line per score and a column per inference rule."""
    rows = [
        [
            name,
            *(f"{s[name]:.5f}" if name in s else ABSENT for s in inferences.values()),
        ]
        for name in score_names([inferences])
    ]
    return aligned([["", *inferences], *rows])


def score_names(results: list[dict[str, ScoresByName]]) -> list[str]:
    """Return the names of the scores that any inference rule has, in order."""
    return list(
        dict.fromkeys(
            name for run in results for found in run.values() for name in found
        )
    )
