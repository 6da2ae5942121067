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
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from studies.arms import Arm, parse_arms
from studies.comparison import compare
from studies.engines import ENGINES, run_tasks
from studies.study import Study, claim, collect, pending
from studies.tables import markdown, show
from train import given_config, place, set_up
from training.config import Config, canonical, flag_lines
from training.interrupt import Stopped
from training.members import parse_seeds
from training.record import write_atomically

flags.FLAGS.set_default("seeds", "0:8")
PLANS = flags.DEFINE_string("plans", "", "plans with semicolons between them")
ARMS = flags.DEFINE_string("arms", "", "arms: [name] --flag=value ...; ...")
TARGET = flags.DEFINE_float(
    "target", 0.0, "accuracy whose time is measured, 0: none", 0.0, 1.0
)
QUESTION = flags.DEFINE_string("question", "", "what the study asks, for its report")
MEMBERS = flags.DEFINE_integer("members", 64, "most runs of one program", 1)
ENGINE = flags.DEFINE_enum("engine", "local", list(ENGINES), "where programs run")
ADDRESS = flags.DEFINE_string("address", "auto", "of the Ray cluster")


def main(argv: list[str]) -> None:
    """Trains what is not finished yet and prints the table; errors are one line."""
    if len(argv) > 1:
        sys.exit(f"compare.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.WARNING)
    try:
        study = given_study()
        claim(study)
        tasks = pending(study, MEMBERS.value)
        run_tasks(tasks, study.directory, ENGINE.value, ADDRESS.value)
        lines = compare(collect(study), study.directory)
        write_atomically(study.directory / "table.md", markdown(lines))
        show(lines, Console())
        print(f"results in {study.directory / 'results.parquet'}")
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
    directory = flags.FLAGS["workdir"].value or default_directory(arms)
    return Study(
        QUESTION.value or f"Which is better: {', '.join(arm.name for arm in arms)}?",
        arms,
        parse_seeds(str(flags.FLAGS["seeds"].value)),
        Path(directory),
        TARGET.value,
        shlex.join(["python", *sys.argv]),
    )


def base_config() -> Config:
    """The flags' configuration, canonical, JAX being set up for its members."""
    base = set_up(canonical(given_config()), place())
    return replace(base, seeds="", mesh="", workdir="")


def default_directory(arms: list[Arm]) -> str:
    """`runs/compare-<digest of the arms>`; seeds can be added there."""
    text = "\n".join(f"{arm.name} {arm.stop} {flag_lines(arm.config)}" for arm in arms)
    return f"runs/compare-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


if __name__ == "__main__":
    app.run(main)
