"""Evaluates finished runs: inference rules, calibration, robustness.

    python scripts/evaluate.py WORKDIR [WORKDIR ...] --rule=scaling,mc --samples=50
    python scripts/evaluate.py WORKDIR --out_of_distribution=digits --corruptions=all
    python scripts/evaluate.py WORKDIR --corrupted='cifar10_corrupted/*'
    python scripts/evaluate.py WORKDIR --dropout='fc:bernoulli:0.2' --fit_rate
    python scripts/evaluate.py WORKDIR --predictions=FILE.parquet
    python scripts/evaluate.py WORKDIR --weights=average

It prints a table and writes into each workdir `evaluation.json`, `evaluation.md`, and
the pictures `evaluation-*.png`. For several runs, such as the seeds of one
configuration, it prints means with 95 % intervals and paired differences to the first
inference rule. For runs of several plans with --corruptions, it plots all plans against
severity (`evaluation-plans.png`). The inference rules are plain, scaling, pooling, mc,
shared_mc and gaussian (`evaluation/inference.py`).

With --dropout it compares the run's own plan and others in one table, and writes it
into `other-plans.md` and `other-plans.json`. --fit_rate multiplies each plan's rates by
the factor that minimises the negative log-likelihood of the validation split.

With --predictions it writes a table instead, with one row per run, inference rule and
example of --predictions_for: id, label, entropy and mutual information in nats, file,
and the probability of each class.
"""

from pathlib import Path

from absl import flags

from evaluation.evaluate import EvaluationRequest
from evaluation.other_plans import parse_plans
from evaluation.prediction_table import (
    PredictionRequest,
    check_file,
    predict_workdirs,
    write_predictions,
)
from evaluation.predictions import WEIGHTS
from evaluation.scores import parse_corruptions
from studies.evaluated_runs import evaluate_workdirs
from studies.other_plans import compare_plans
from training.flags import define_moved_flags
from training.runtime.main import run_main

INFERENCE_RULES = flags.DEFINE_list(
    "rule", ["scaling", "mc"], "inference rules, separated by commas"
)
SAMPLES = flags.DEFINE_integer(
    "samples", 50, "number of samples per example, for inference rules that sample", 1
)
EXAMPLES = flags.DEFINE_integer(
    "examples", 0, "number of examples of each split to use (0: all)", 0
)
OUTSIDE = flags.DEFINE_string(
    "out_of_distribution",
    "",
    "name or path of a data set to distinguish from the run's by uncertainty (default: "
    "none)",
)
CORRUPTIONS = flags.DEFINE_string(
    "corruptions", "", "corruptions, separated by commas, or all (default: none)"
)
CORRUPTED = flags.DEFINE_integer(
    "corrupted_examples", 1000, "number of test examples to corrupt", 1
)
CORRUPTED_SETS = flags.DEFINE_list(
    "corrupted",
    [],
    "prepared data sets of corrupted images, as names or patterns such as "
    "'cifar10_corrupted/*', separated by commas",
)
PLANS = flags.DEFINE_multi_string(
    "dropout",
    [],
    "plan to put into the trained network and to compare with its own; may be repeated",
)
FIT_RATE = flags.DEFINE_bool(
    "fit_rate",
    False,
    "fit a factor on the rates of each plan to the validation split (default: no)",
)
WHICH = flags.DEFINE_enum(
    "weights",
    "last",
    WEIGHTS,
    "parameters to evaluate: those after the last step, or their moving average "
    "(--ema in training)",
)
PREDICTIONS = flags.DEFINE_string(
    "predictions", "", "file for predictions: .parquet, .csv or .npz (default: none)"
)
PREDICTIONS_FOR = flags.DEFINE_list(
    "predictions_for",
    ["test"],
    "what to predict, separated by commas: test, validation, folders of PNG and JPEG "
    "images, and other data sets by name or path",
)
DATA_DIR, CACHE_DIR = define_moved_flags()


def main(arguments: list[str]) -> None:
    """Evaluate every workdir, or write its predictions."""
    if not arguments:
        raise ValueError("no workdir given; expected the directory of a run.")
    if PREDICTIONS.value:
        return predict(arguments, PREDICTIONS.value)
    request = EvaluationRequest(
        INFERENCE_RULES.value,
        SAMPLES.value,
        EXAMPLES.value,
        OUTSIDE.value,
        parse_corruptions(CORRUPTIONS.value),
        CORRUPTED.value,
        tuple(CORRUPTED_SETS.value),
        WHICH.value,
    )
    directories = DATA_DIR.value, CACHE_DIR.value
    if PLANS.value or FIT_RATE.value:
        compare_plans(arguments, PLANS.value, request, FIT_RATE.value, *directories)
    else:
        evaluate_workdirs(arguments, request, *directories)


def predict(workdirs: list[str], path: str) -> None:
    """Write the predictions of every workdir into one file."""
    check_file(path)
    if FIT_RATE.value:
        raise ValueError(
            "--fit_rate: expected without --predictions; multiply the rates of "
            "--dropout by the factor that it finds."
        )
    request = PredictionRequest(
        INFERENCE_RULES.value,
        SAMPLES.value,
        EXAMPLES.value,
        PREDICTIONS_FOR.value,
        parse_plans(PLANS.value),
        WHICH.value,
    )
    table = predict_workdirs(workdirs, request, DATA_DIR.value, CACHE_DIR.value)
    write_predictions(Path(path), table)
    print(f"{len(table):,} predictions in {path}")


if __name__ == "__main__":
    run_main(main)
