"""Compares plans, or any other flags, over seeds, and says what differs.

    python scripts/compare.py --plans='none; fc:bernoulli:0.5; conv*:spatial:0.1'
    python scripts/compare.py --plans='none; fc:bernoulli:0.5' --epochs=30 \\
        --arms='plain --weight_decay=0; decay --weight_decay=1e-4' --seeds=0:8
    python scripts/compare.py --validation_examples=200 --target=0.95 \\
        --arms='plain --dropout=none; stopped --dropout=none --stop=best_validation'

All flags of train.py hold for every arm; --plans and --arms combine. Arms are paired by
seed: they share initialisation, order of the data, and the masks of equal sites. The
first arm is what the others are compared with. The same command again goes on after a
stop. --workdir gets every run, `study.json`, `results.parquet` and `table.md`.
"""

import hashlib
import sys
from dataclasses import replace

from absl import app, flags, logging

from scripts import study_flags
from scripts.study_flags import MEMBERS, base_config, show_table, study_of, train
from studies.arms import Arm, parse_arms
from studies.study import Study, collect, pending
from training.config import flag_lines
from training.runtime.signals import Stopped

flags.adopt_module_key_flags(study_flags)
flags.FLAGS.set_default("seeds", "0:8")
PLANS = flags.DEFINE_string("plans", "", "plans with semicolons between them")
ARMS = flags.DEFINE_string("arms", "", "arms: [name] --flag=value ...; ...")


def main(argv: list[str]) -> None:
    """Trains what is not finished yet and prints the table; errors are one line."""
    if len(argv) > 1:
        sys.exit(f"compare.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.FATAL)
    try:
        study = given_study()
        train(study, pending(study, MEMBERS.value))
        show_table(study, collect(study))
    except (ValueError, FloatingPointError, Stopped) as error:
        sys.exit(f"compare.py: {error}")


def given_study() -> Study:
    """The study that the flags give."""
    base = base_config()
    plans = PLANS.value
    if not plans and not ARMS.value:
        plans = f"none; {base.dropout}"
    arms = parse_arms(replace(base, workdir=""), plans, ARMS.value)
    if len(arms) < 2:
        raise ValueError("expected two arms or more: give --plans or --arms.")
    question = f"Which is better: {', '.join(arm.name for arm in arms)}?"
    return study_of(arms, question, default_directory(arms))


def default_directory(arms: list[Arm]) -> str:
    """`runs/compare-<digest of the arms>`; seeds can be added there."""
    text = "\n".join(f"{arm.name} {arm.stop} {flag_lines(arm.config)}" for arm in arms)
    return f"runs/compare-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


if __name__ == "__main__":
    app.run(main)
