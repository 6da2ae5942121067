"""The metrics of a run, `metrics.jsonl`: one JSON object per line."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from training.record.files import (
    Damaged,
    parse_object,
    read_summary,
    read_text,
    write_atomically,
)
from training.runtime.processes import by_leader

LoggedLine = dict[str, Any]


@by_leader
def append_line(workdir: Path, line: LoggedLine) -> None:
    """Add one JSON object to `metrics.jsonl`."""
    # What a link points to is not of this run.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(workdir / "metrics.jsonl", flags, 0o666), "a") as file:
        file.write(json.dumps(finite(line), allow_nan=False) + "\n")


def finite(line: LoggedLine) -> LoggedLine:
    """Return the line with None for numbers that are not finite: JSON has none."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }


def metrics_text(workdir: Path) -> str:
    """Return all of `metrics.jsonl`."""
    path = workdir / "metrics.jsonl"
    return path.read_text() if path.exists() else ""


def write_metrics(workdir: Path, text: str) -> None:
    """Write `metrics.jsonl` as it was at the checkpoint from which training resumes."""
    write_atomically(workdir / "metrics.jsonl", text)


def read_finished(workdir: Path) -> tuple[dict[str, Any], list[LoggedLine]]:
    """Return the summary of a finished run, and the metrics that it is about.

    Raises:
        Damaged: a file is missing or damaged, or the metrics are not the summary's.
    """
    summary = read_summary(workdir)
    lines = read_metrics(workdir)
    if "metrics_digest" in summary:  # Summaries of earlier versions have none.
        if text_digest(metrics_text(workdir)) != summary["metrics_digest"]:
            raise Damaged(
                f"{workdir / 'metrics.jsonl'} is not the file that summary.json is "
                "about. Delete summary.json and rerun the command of the run."
            )
    return summary, lines


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_metrics(workdir: Path) -> list[LoggedLine]:
    """Return the lines of `metrics.jsonl`.

    Raises:
        Damaged: the file is missing or damaged.
    """
    path = workdir / "metrics.jsonl"
    return [parse_object(path, line) for line in read_text(path).splitlines()]
