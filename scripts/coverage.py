"""Simulates studies, and prints how often their intervals hold the true difference.

    python scripts/coverage.py --studies=500

The first table has the coverage of 95 % intervals of the difference between two equal
arms, where the difference varies with the seed, with the test example, or with both. It
compares the paired t-test over seeds with the interval over seeds and test examples.
The lines below it are error rates of tests. Nothing is trained, so it takes seconds.
"""

from absl import flags

from studies.coverage import (
    SEEDS,
    alarms_after_looks,
    coverages,
    false_equivalences,
)
from studies.tables import markdown_table
from training.runtime.main import run_main

STUDIES = flags.DEFINE_integer("studies", 500, "number of studies per cell", 1)


def main(arguments: list[str]) -> None:
    """Print the tables."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")
    rows = [
        (c.varies, str(c.seeds), f"{100 * c.paired:.1f}", f"{100 * c.crossed:.1f}")
        for c in coverages(STUDIES.value)
    ]
    header = ("varies with", "seeds", "paired t, %", "seeds and examples, %")
    print(markdown_table(header, rows))
    share = alarms_after_looks(STUDIES.value)
    print(f"\ntested after each of 3 to 8 seeds: {100 * share:.1f} % of null studies")
    for seeds in SEEDS:
        share = false_equivalences(STUDIES.value, seeds)
        print(f"called equal at the margin, {seeds} seeds: {100 * share:.1f} %")


if __name__ == "__main__":
    run_main(main)
