"""Tests a published claim with gates that were committed before its runs.

    python scripts/reproduce.py configs/claims/NAME.gates.toml --data_dir=DIR
    python scripts/reproduce.py configs/claims/NAME.gates.toml --seeds=100:103

It runs the commands of the file, decides each gate, and adds the verdict (holds, does
not hold, or undecided) to NAME.verdicts.jsonl beside it, which keeps every verdict. It
refuses gates that are not committed, and gates that were changed after the runs in
--out began. Rerun the same command to resume. `make evidence CLAIM=NAME` does the same.
"""

from pathlib import Path

from absl import flags

from studies.reproduction import outcome_lines, reproduce
from training.runtime.main import run_main

SEEDS = flags.DEFINE_string("seeds", "", "seeds (default: those of the claim)")
DATA_DIR = flags.DEFINE_string("data_dir", "", "directory with the prepared data sets")
OUT = flags.DEFINE_string(
    "out", "", "directory of the runs (default: runs/claims/NAME-SEEDS)"
)


def main(arguments: list[str]) -> None:
    """Run the claim and print the verdict of each gate."""
    if len(arguments) != 1:
        raise ValueError("expected one argument, the NAME.gates.toml of a claim.")
    found = reproduce(Path(arguments[0]), SEEDS.value, DATA_DIR.value, OUT.value)
    print("\n".join(outcome_lines(found)))


if __name__ == "__main__":
    run_main(main)
