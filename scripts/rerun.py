"""Repeats a run in a fresh directory and says whether it is identical.

    python scripts/rerun.py runs/NAME
    python scripts/rerun.py runs/NAME --into=runs/NAME-again

Runs `train.py` with the recorded `run.flags` and compares what the two runs recorded:
metrics line by line, and the digests of parameters and masks. Exits with 0 if they are
identical; otherwise says what differs, since which step, and which versions do.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags

INTO = flags.DEFINE_string("into", "", "keeps the rerun there (default: nowhere)")

ROOT = Path(__file__).parent.parent
COMPARED = ("steps", "skipped", "params_digest", "masks_digest")
CIRCUMSTANCES = ("versions", "devices", "commit")


def main(argv: list[str]) -> None:
    """Repeats the run of a workdir and prints `identical`, or what differs."""
    if len(argv) != 2:
        sys.exit("rerun.py: expected one workdir, e.g. scripts/rerun.py runs/NAME")
    workdir = Path(argv[1])
    for name in ("run.flags", "summary.json", "metrics.jsonl"):
        if not (workdir / name).is_file():
            sys.exit(f"rerun.py: {workdir} holds no finished run: it has no {name}.")
    if INTO.value and Path(INTO.value).exists():
        sys.exit(f"rerun.py: --into={INTO.value}: expected a directory not yet there.")
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(INTO.value or f"{scratch}/again")
        repeat(workdir, again)
        differing = differences(workdir, again)
        if differing:
            sys.exit(
                "\n".join(["different", *differing, *circumstances(workdir, again)])
            )
        print(f"identical: {', '.join(matches(workdir))}")


def repeat(workdir: Path, again: Path) -> None:
    """Runs `train.py` with the flags of a run's record."""
    command = [
        sys.executable, str(ROOT / "train.py"), f"--flagfile={workdir / 'run.flags'}",
        f"--workdir={again}",
    ]  # fmt: skip
    done = subprocess.run(command)
    if done.returncode:
        sys.exit(f"rerun.py: train.py ended with exit status {done.returncode}.")


def differences(expected: Path, found: Path) -> list[str]:
    """What differs between two finished runs, one line each."""
    first, second = (summary(workdir) for workdir in (expected, found))
    lines = [
        f"{name}: {second[name]}, was {first[name]}"
        for name in COMPARED
        if first[name] != second[name]
    ]
    return lines + first_difference(metrics(expected), metrics(found))


def first_difference(expected: list[dict], found: list[dict]) -> list[str]:
    """The first line of the metrics that differs, as a list of one text or none."""
    for old, new in itertools.zip_longest(expected, found, fillvalue={}):
        if old != new:
            changed = [
                name for name in {**old, **new} if old.get(name) != new.get(name)
            ]
            values = (
                f"{name} {new.get(name)}, was {old.get(name)}" for name in changed
            )
            place = {**new, **old}
            return [
                f"metrics since step {place['step']} ({place['split']}): "
                f"{'; '.join(values)}"
            ]
    return []


def circumstances(expected: Path, found: Path) -> list[str]:
    """Under which other circumstances the rerun took place."""
    first, second = (summary(workdir) for workdir in (expected, found))
    return [
        f"{name} {second.get(name)}, was {first.get(name)}"
        for name in CIRCUMSTANCES
        if first.get(name) != second.get(name)
    ]


def matches(workdir: Path) -> list[str]:
    """What has been found equal."""
    recorded = summary(workdir)
    return [
        f"{len(metrics(workdir))} lines of metrics",
        f"parameters {recorded['params_digest'][:16]}",
        f"masks {recorded['masks_digest'][:16]}",
    ]


def summary(workdir: Path) -> dict[str, Any]:
    """The record of a run's end."""
    return json.loads((workdir / "summary.json").read_text())


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    app.run(main)
