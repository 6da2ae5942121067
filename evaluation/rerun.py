"""Reruns: a run repeated in a fresh directory, and what differs in the two records."""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from training.flag_text import parse_flag_lines
from training.record.files import read_summary
from training.record.metrics_log import read_finished, read_metrics

TRAIN = Path(__file__).parent.parent / "train.py"
COMPARED = ("steps", "skipped", "params_digest", "masks_digest")
CIRCUMSTANCES = ("versions", "devices", "commit", "data_digest")
RECORD = ("run.flags", "summary.json", "metrics.jsonl")


class Verdict(NamedTuple):
    """Whether a rerun is identical, and the text that says so or what differs."""

    identical: bool
    text: str


def rerun(
    workdir: Path, into: str = "", data_dir: str = "", cache_dir: str = ""
) -> Verdict:
    """Repeat a run and compare the two records.

    Args:
        workdir: the directory of the run.
        into: keeps the rerun in this directory, unless empty.
        data_dir: where the data lie now; as recorded if empty.
        cache_dir: where decoded data are kept; the user's cache if empty.

    Raises:
        ValueError: the workdir holds no whole record, or the run cannot be repeated.
    """
    for name in RECORD:
        if not (workdir / name).is_file():
            raise ValueError(f"{workdir} holds no finished run: it has no {name}.")
    if into and Path(into).exists():
        raise ValueError(f"--into={into}: expected a directory that does not exist.")
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(into or f"{scratch}/again")
        repeat(workdir, again, data_dir, cache_dir)
        differing = differences(workdir, again)
        if differing:
            lines = ["different", *differing, *circumstances(workdir, again)]
            return Verdict(False, "\n".join(lines))
    return Verdict(True, f"identical: {', '.join(matches(workdir))}")


def repeat(workdir: Path, again: Path, data_dir: str, cache_dir: str) -> None:
    """Run `train.py` with the flags of a run's record, after a check of the record.

    Raises:
        ValueError: the record is damaged, or the run cannot be repeated.
    """
    matches(workdir)
    read_finished(workdir)
    parse_flag_lines((workdir / "run.flags").read_text())
    moved = {"workdir": str(again), **({"data_dir": data_dir} if data_dir else {})}
    done = subprocess.run(
        [
            sys.executable,
            str(TRAIN),
            f"--flagfile={workdir / 'run.flags'}",
            *(f"--{name}={value}" for name, value in moved.items()),
            # Empty too: a record of an earlier version holds the cache of its machine.
            f"--cache_dir={cache_dir}",
        ]
    )
    if done.returncode:
        raise ValueError(f"train.py ended with exit status {done.returncode}.")


def differences(expected: Path, found: Path) -> list[str]:
    """Return what differs between two finished runs, one line each."""
    first, second = (results(workdir) for workdir in (expected, found))
    lines = [
        f"{name}: {second.get(name)}, was {first.get(name)}"
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]
    return lines + first_difference(read_metrics(expected), read_metrics(found))


def results(workdir: Path) -> dict[str, Any]:
    """Return what a rerun has to repeat; of a population, of each member.

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
    """Return the first line of the metrics that differs, as one text or none."""
    for old, new in itertools.zip_longest(expected, found, fillvalue={}):
        if old != new:
            return [_difference(old, new)]
    return []


def circumstances(expected: Path, found: Path) -> list[str]:
    """Return the circumstances of the rerun that are others than those of the run."""
    first, second = (read_summary(workdir) for workdir in (expected, found))
    return [
        f"{name} {second.get(name)}, was {first.get(name)}"
        for name in CIRCUMSTANCES
        if first.get(name) != second.get(name)
    ]


def matches(workdir: Path) -> list[str]:
    """Return what is equal in an identical rerun."""
    digests = [
        f"{name.replace('params', 'parameters').removesuffix('_digest')} {value[:16]}"
        for name, value in results(workdir).items()
        if name.endswith("_digest")
    ]
    return [f"{len(read_metrics(workdir))} lines of metrics", *digests]


def _difference(old: dict, new: dict) -> str:
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    values = (f"{name} {new.get(name)}, was {old.get(name)}" for name in changed)
    line = {**new, **old}
    where = ", member ".join(
        str(line[name]) for name in ("split", "member") if name in line
    )
    return f"metrics since step {line['step']} ({where}): {'; '.join(values)}"
