"""Compares plans, or any other flags, over seeds, and says which arms differ.

    python scripts/compare.py --plans='none; fc:bernoulli:0.5; conv*:spatial:0.1'
    python scripts/compare.py --plans='none; fc:bernoulli:0.5' --epochs=30 \\
        --arms='plain --weight_decay=0; decay --weight_decay=1e-4' --seeds=0:8
    python scripts/compare.py --validation_examples=200 --target=0.95 \\
        --arms='plain --dropout=none; stopped --dropout=none --stop=best_validation'

All flags of train.py hold for every arm. With both --plans and --arms, every plan is
combined with every arm. Arms are paired by seed: they share the initialisation, the
order of the data, and the masks of equal sites. All arms are compared with the first;
`--versus=none` compares each with the arm that has the plan `none` and the same other
flags:

    python scripts/compare.py --plans='none; fc:bernoulli:0.5' --versus=none \\
        --arms='--train_examples=200; --train_examples=1000'

Rerun the same command to resume a stopped comparison. Every run, `study.json`,
`results.parquet`, `results.csv`, `table.md` and `table.tex` are written to --workdir.
"""

from absl import flags

from studies.arms import compared_arms, comparison_directory, parse_versus
from studies.flags import define_study_flags, given_study_request
from studies.study import collect, show_table, study_of, tasks_of, train_tasks
from training.flags import define_config_flags
from training.runtime.main import run_main

define_config_flags()
define_study_flags(seeds="0:8")
PLANS = flags.DEFINE_string(
    "plans", "", "plans, separated by semicolons (default: none and --dropout)"
)
ARMS = flags.DEFINE_string(
    "arms", "", "arms as [name] --flag=value ..., separated by semicolons"
)
VERSUS = flags.DEFINE_string(
    "versus",
    "",
    "arm to compare the others with: its name; or a plan, for the arm with this plan "
    "and the same other flags; or flags of --arms, for the arm with them and the same "
    "plan (default: the first arm)",
)


def main(arguments: list[str]) -> None:
    """Train the unfinished runs and print the table."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")
    request = given_study_request()
    arms = compared_arms(request.base, PLANS.value, ARMS.value)
    question = f"Which is better: {', '.join(arm.name for arm in arms)}?"
    versus = parse_versus(VERSUS.value, arms)
    study = study_of(request, arms, question, comparison_directory(arms), versus)
    train_tasks(study, tasks_of(study, request), request)
    show_table(study, collect(study))


if __name__ == "__main__":
    run_main(main)
