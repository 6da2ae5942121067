"""Records of a study's runs: written whole, and read only where they fit together."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from training.record.files import Damaged, replacing, write_atomically
from training.record.metrics_log import LoggedLine, read_finished, text_digest

PREDICTIONS = "predictions.npz"
# The files of a finished run.
RECORD = ("run.flags", "plan.txt", "metrics.jsonl", "summary.json", PREDICTIONS)
# What a study needs of a summary, beside the step that `read_summary` asks for.
NEEDED = (
    "train_accuracy", "test_accuracy", "seconds", "images_per_second",
    "metrics_digest", "data_digest",
)  # fmt: skip


class TestPredictions(NamedTuple):
    """What a run predicts for the test examples after a step."""

    log_probabilities: Float[np.ndarray, "n classes"]
    labels: Int[np.ndarray, " n"]
    step: int


class RunRecord(NamedTuple):
    """What a finished run has recorded."""

    summary: dict[str, Any]
    lines: list[LoggedLine]
    predictions: TestPredictions


def whole(workdir: Path) -> bool:
    """Return whether a run's record has all of its files, and they fit together."""
    try:
        read_record(workdir)
    except Damaged:
        return False
    return all((workdir / name).is_file() for name in RECORD)


def read_record(workdir: Path) -> RunRecord:
    """Return the record of a finished run.

    Raises:
        Damaged: a file is missing or damaged, or they are not about the same step.
    """
    summary, lines = read_finished(workdir)
    missing = [name for name in NEEDED if name not in summary]
    if missing:
        raise Damaged(f"{workdir / 'summary.json'} has no {missing[0]!r}.")
    predictions = read_predictions(workdir)
    if predictions.step != summary["steps"]:
        raise Damaged(
            f"{workdir}: the predictions are those of step {predictions.step}, the "
            f"summary is about step {summary['steps']}."
        )
    return RunRecord(summary, lines, predictions)


def read_predictions(workdir: Path) -> TestPredictions:
    """Return the predictions of a finished run.

    Raises:
        Damaged: the file is missing or damaged.
    """
    path = workdir / PREDICTIONS
    try:
        # np.load leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in TestPredictions._fields]
        return TestPredictions(found[0], found[1], int(found[2]))
    except Exception as error:  # Damage shows itself in many kinds of error.
        reason = str(error).partition("\n")[0]
        raise Damaged(f"{path} is missing or damaged ({reason}).") from None


def write_record(
    workdir: Path,
    texts: dict[str, str],
    lines: list[LoggedLine],
    summary: dict[str, Any],
    predictions: TestPredictions,
) -> None:
    """Write the record of a finished run; `texts` are files that are only shown."""
    workdir.mkdir(exist_ok=True)
    metrics = "".join(json.dumps(line) + "\n" for line in lines)
    summary = {**summary, "metrics_digest": text_digest(metrics)}
    texts = {
        **texts,
        "metrics.jsonl": metrics,
        "summary.json": json.dumps(summary, indent=2) + "\n",
    }
    for name, text in texts.items():
        write_atomically(workdir / name, text)
    with replacing(workdir / PREDICTIONS) as temporary:
        np.savez(temporary, **predictions._asdict())
