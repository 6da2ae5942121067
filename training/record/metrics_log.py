"""The metrics of a run, `metrics.jsonl`: one JSON object per line."""

import json
import math
import os
from pathlib import Path
from typing import Any

from training.record.files import parse_object, read_text
from training.runtime.processes import by_leader

Line = dict[str, Any]


@by_leader
def append_line(workdir: Path, line: Line) -> None:
    """Add one JSON object to `metrics.jsonl`."""
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(finite(line), allow_nan=False) + "\n")


def finite(line: Line) -> Line:
    """Return the line with None for numbers that are not finite: JSON has none."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }


def metrics_size(workdir: Path) -> int:
    """Return the length of `metrics.jsonl` in bytes."""
    path = workdir / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


@by_leader
def truncate_metrics(workdir: Path, size: int) -> None:
    """Cut off the lines after the checkpoint from which training resumes."""
    (workdir / "metrics.jsonl").touch()
    os.truncate(workdir / "metrics.jsonl", size)


def read_metrics(workdir: Path) -> list[Line]:
    """Return the lines of `metrics.jsonl`.

    Raises:
        ValueError: the file is damaged.
    """
    path = workdir / "metrics.jsonl"
    return [parse_object(path, line) for line in read_text(path).splitlines()]
