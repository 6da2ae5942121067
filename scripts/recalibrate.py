"""Estimates a trained network's batch-norm statistics again, without dropout.

    python scripts/recalibrate.py WORKDIR

For each norm, it prints the ratio of the running variance to the variance without
dropout. It also prints the test scores with the old and the new statistics, and writes
`recalibrated.json` into WORKDIR.
"""

from evaluation.recalibration import recalibrate
from training.flags import define_moved_flags
from training.runtime.main import run_main

DATA_DIR, CACHE_DIR = define_moved_flags()


def main(arguments: list[str]) -> None:
    """Recalibrate the run of a workdir."""
    if len(arguments) != 1:
        raise ValueError("expected one argument, the workdir of a run.")
    recalibrate(arguments[0], DATA_DIR.value, CACHE_DIR.value)


if __name__ == "__main__":
    run_main(main)
