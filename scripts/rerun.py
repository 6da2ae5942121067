"""Repeats a run in a fresh directory and says whether it is identical.

    python scripts/rerun.py runs/NAME
    python scripts/rerun.py runs/NAME --into=runs/NAME-again

It runs `train.py` with the recorded `run.flags` and compares the records of the two
runs: the metrics line by line, and the digests of parameters and masks. If they are
identical, it exits with status 0. Otherwise it says what differs, from which step on,
and which versions of packages differ.
"""

import sys
from pathlib import Path

from absl import flags

from evaluation.rerun import rerun
from training.flags import define_moved_flags
from training.runtime.main import run_main

INTO = flags.DEFINE_string(
    "into", "", "directory in which to keep the rerun (default: it is deleted)"
)
DATA_DIR, CACHE_DIR = define_moved_flags()


def main(arguments: list[str]) -> None:
    """Repeat the run of a workdir and print `identical`, or what differs."""
    if len(arguments) != 1:
        raise ValueError("expected one workdir, e.g. scripts/rerun.py runs/NAME")
    workdir = Path(arguments[0])
    verdict = rerun(workdir, INTO.value, DATA_DIR.value, CACHE_DIR.value)
    if not verdict.identical:
        sys.exit(verdict.text)
    print(verdict.text)


if __name__ == "__main__":
    run_main(main)
