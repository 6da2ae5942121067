"""Repeats a run in a fresh directory and says whether it is identical.

    python scripts/rerun.py runs/NAME
    python scripts/rerun.py runs/NAME --into=runs/NAME-again

Runs `train.py` with the recorded `run.flags` and compares what the two runs recorded:
metrics line by line, and the digests of parameters and masks. Exits with 0 if they are
identical; otherwise says what differs, since which step, and which versions do.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags

from training.config import parse_flag_lines
from training.record.files import read_metrics, read_summary

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
        try:
            repeat(workdir, again)
        except ValueError as error:
            sys.exit(f"rerun.py: {error}")
        differing = differences(workdir, again)
        if differing:
            sys.exit(
                "\n".join(["different", *differing, *circumstances(workdir, again)])
            )
        print(f"identical: {', '.join(matches(workdir))}")


def repeat(workdir: Path, again: Path) -> None:
    """Runs `train.py` with the flags of a run's record, once that is seen to be whole.

    Raises:
        ValueError: the record is damaged, or the run cannot be repeated.
    """
    matches(workdir)
    parse_flag_lines((workdir / "run.flags").read_text())
    command = [
        sys.executable, str(ROOT / "train.py"), f"--flagfile={workdir / 'run.flags'}",
        f"--workdir={again}",
    ]  # fmt: skip
    done = subprocess.run(command)
    if done.returncode:
        raise ValueError(f"train.py ended with exit status {done.returncode}.")


def differences(expected: Path, found: Path) -> list[str]:
    """What differs between two finished runs, one line each."""
    first, second = (results(workdir) for workdir in (expected, found))
    lines = [
        f"{name}: {second.get(name)}, was {first.get(name)}"
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]
    return lines + first_difference(read_metrics(expected), read_metrics(found))


def results(workdir: Path) -> dict[str, Any]:
    """What a rerun has to repeat; of a population of each member.

    Raises:
        ValueError: the record lacks it.
    """
    recorded = read_summary(workdir)
    try:
        if "members" not in recorded:
            return {name: recorded[name] for name in COMPARED}
        return {
            f"member {member['member']}: {name}": member[name]
            for member in recorded["members"]
            for name in COMPARED
        }
    except KeyError as missing:
        raise ValueError(
            f"{workdir / 'summary.json'} has no {missing}; expected a finished run."
        ) from None


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
            where = ", member ".join(
                str(place[name]) for name in ("split", "member") if name in place
            )
            return [
                f"metrics since step {place['step']} ({where}): {'; '.join(values)}"
            ]
    return []


def circumstances(expected: Path, found: Path) -> list[str]:
    """Under which other circumstances the rerun took place."""
    first, second = (read_summary(workdir) for workdir in (expected, found))
    return [
        f"{name} {second.get(name)}, was {first.get(name)}"
        for name in CIRCUMSTANCES
        if first.get(name) != second.get(name)
    ]


def matches(workdir: Path) -> list[str]:
    """What has been found equal."""
    found = results(workdir)
    digests = [
        f"{name.replace('params', 'parameters').removesuffix('_digest')} {value[:16]}"
        for name, value in found.items()
        if name.endswith("_digest")
    ]
    return [f"{len(read_metrics(workdir))} lines of metrics", *digests]


if __name__ == "__main__":
    app.run(main)
