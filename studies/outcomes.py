"""Outcomes of trials: a row of measures per trial, read from the record of its run."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from evaluation.measures import (
    calibration_error_floor,
    expected_calibration_error,
    negative_log_likelihood,
)
from studies.arms import Trial
from studies.records import RunRecord, read_predictions, read_record
from training.config import Config
from training.record.files import Damaged, one_at_a_time, replacing
from training.record.metrics_log import LoggedLine

IDENTITY = ("run", "arm", "stop")
SETTINGS = tuple(f.name for f in fields(Config) if not f.metadata["resumable"])


def outcome(trial: Trial, directory: Path, target: float) -> dict[str, Any]:
    """Return the row of a finished trial: its identity, its flags and its measures.

    `test_error`, `gap` (test minus train error), `nll` and `ece` belong to the step
    that counts; `ece_floor` is the ECE of a perfect predictor. `epochs_to_target` and
    `seconds_to_target` (of training alone) are the time until the accuracy first
    reaches `target`, on validation examples if there are any and else on test examples.
    They are null if it does not within `epochs_followed`, the epochs of the run.
    """
    workdir = directory / trial.run
    record = read_record(workdir)
    summary, lines = record.summary, record.lines
    if trial.stop == "last":
        measures = _at_the_end(record)
    else:
        measures = _at_best_validation(lines, workdir)
    return {
        "arm": trial.arm,
        "run": trial.run,
        "stop": trial.stop,
        **{name: getattr(trial.config, name) for name in SETTINGS},
        **measures,
        **_last_validation(lines),
        **_time_to(target, lines, summary, trial.config),
        "seconds": summary["seconds"],
    }


def correctly_classified(workdir: Path) -> Bool[np.ndarray, " n"]:
    """Return which test examples a finished run classifies right at its last step."""
    found = read_predictions(workdir)
    return found.log_probabilities.argmax(-1) == found.labels


def append(path: Path, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Add rows to a Parquet file, in place of earlier rows of the same trials.

    A damaged file is written anew: all that it held is in the records of the runs.
    """
    table = pl.DataFrame(rows, infer_schema_length=None)
    # Each of several shards reads, adds and writes.
    with one_at_a_time(path.with_name("results.lock")):
        if path.exists():
            table = pl.concat([_earlier(path), table], how="diagonal_relaxed")
        table = table.unique(IDENTITY, keep="last", maintain_order=True)
        with replacing(path) as temporary:
            table.write_parquet(temporary)
        with replacing(path.with_suffix(".csv")) as temporary:
            table.write_csv(temporary)
    return table


def read_results(path: Path) -> pl.DataFrame:
    """Return the rows of a study.

    Raises:
        Damaged: the file is damaged.
    """
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise Damaged(
            f"{path} is damaged ({reason}); expected the rows of a study. Move it "
            "away and rerun the study's command to write it again."
        ) from None


def _earlier(path: Path) -> pl.DataFrame:
    """Return the rows written before; none of a damaged file, which a line names."""
    try:
        return read_results(path)
    except Damaged as damaged:
        print(str(damaged).partition(";")[0] + "; writing it anew.", file=sys.stderr)
        return pl.DataFrame()


def _at_the_end(record: RunRecord) -> dict[str, Any]:
    summary, (found, labels, _) = record.summary, record.predictions
    return {
        "step": summary["steps"],
        "test_error": 1 - summary["test_accuracy"],
        "gap": _gap(summary),
        "nll": negative_log_likelihood(found, labels),
        "ece": expected_calibration_error(found, labels),
        "ece_floor": calibration_error_floor(found),
    }


def _gap(summary: dict[str, Any]) -> float | None:
    """The gap of accuracy; None where the training examples were not evaluated."""
    train = summary["train_accuracy"]
    return None if train is None else train - summary["test_accuracy"]


def _at_best_validation(lines: list[LoggedLine], workdir: Path) -> dict[str, Any]:
    """Return the measures at the step of lowest validation loss.

    The training accuracy is the mean over the epoch, under dropout.
    """
    validation = [line for line in lines if line["split"] == "validation"]
    step = min(validation, key=lambda line: line["loss"])["step"]
    at_step = {line["split"]: line for line in lines if line["step"] == step}
    if "test" not in at_step or "train" not in at_step:
        raise ValueError(
            f"{workdir} has no test at step {step} with the lowest validation loss; "
            "expected --test_every=0 and --log_every=0 with --stop=best_validation."
        )
    train, test = at_step["train"], at_step["test"]
    return {
        "step": step,
        "test_error": 1 - test["accuracy"],
        "gap": train["accuracy"] - test["accuracy"],
        "nll": test["loss"],
        "ece": None,
        "ece_floor": None,
    }


def _last_validation(lines: list[LoggedLine]) -> dict[str, float | None]:
    """Return error and loss on the held-out examples, if any, at the last step."""
    found = [line for line in lines if line["split"] == "validation"]
    return {
        "validation_error": 1 - found[-1]["accuracy"] if found else None,
        "validation_loss": found[-1]["loss"] if found else None,
    }


def _time_to(
    target: float, lines: list[LoggedLine], summary: dict[str, Any], config: Config
) -> dict[str, float | None]:
    split = "validation" if config.validation_examples else "test"
    held_out = [line for line in lines if line["split"] == split]
    reached = [line for line in held_out if line["accuracy"] >= target]
    # Not the epoch of the last line: a run that is not finite logs none any more.
    epochs = [summary["steps"] * x["epoch"] / x["step"] for x in held_out[:1]]
    followed = {"epochs_followed": epochs[0] if epochs else None}
    if not target or not reached or not summary["images_per_second"]:
        return {"epochs_to_target": None, "seconds_to_target": None, **followed}
    images = reached[0]["step"] * config.batch_size
    return {
        **followed,
        "epochs_to_target": reached[0]["epoch"],
        "seconds_to_target": images / summary["images_per_second"],
    }
