"""Reruns: repeat a run in a fresh directory and compare the two records."""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from training.record.files import read_summary
from training.record.metrics_log import read_finished, read_metrics
from training.record.same_run import recorded_config

TRAIN = Path(__file__).parent.parent / "train.py"
COMPARED = ("steps", "skipped", "params_digest", "masks_digest")
CIRCUMSTANCES = ("versions", "devices", "commit", "data_digest")
RECORD = ("run.flags", "summary.json", "metrics.jsonl")


class Verdict(NamedTuple):
    """Whether a rerun is identical, and a text with the differences, if any."""

    identical: bool
    text: str


def rerun(
    workdir: Path, into: str = "", data_dir: str = "", cache_dir: str = ""
) -> Verdict:
    """Repeat a run and compare the two records.

    Args:
        workdir: the directory of the run.
        into: the directory that keeps the rerun; if empty, the rerun is deleted.
        data_dir: the directory of the data now; if empty, the recorded one.
        cache_dir: the directory of decoded data; if empty, the user's cache.

    Raises:
        ValueError: the record is incomplete, or the run cannot be repeated.
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
            return Verdict(False, "\n".join([*lines, *file_changes(workdir, again)]))
        lines = file_changes(workdir, again)
    identical = f"identical: {', '.join(matches(workdir))}"
    return Verdict(True, "\n".join([*lines, identical]))


def repeat(workdir: Path, again: Path, data_dir: str, cache_dir: str) -> None:
    """Check the record of a run, and run `train.py` with its flags.

    Raises:
        ValueError: the record is damaged, or the run cannot be repeated.
    """
    matches(workdir)
    read_finished(workdir)
    recorded = recorded_config(workdir / "run.flags")
    # A rerun is compared with the record, and no other tracker is told of it.
    moved = {"workdir": str(again), "tracker": "tensorboard"}
    if data_dir:
        moved["data_dir"] = data_dir
    # A record of an earlier version does not name it.
    moved["convolution"] = recorded.convolution
    done = subprocess.run(
        [
            sys.executable,
            str(TRAIN),
            f"--flagfile={workdir / 'run.flags'}",
            *(f"--{name}={value}" for name, value in moved.items()),
            # Passed even if empty: a record of an earlier version holds the cache
            # directory of its own machine.
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
    """Return the values that a rerun has to repeat, for each member of a population.

    Raises:
        ValueError: the record does not have them.
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
    """Return a text on the first line of the metrics that differs, if there is one."""
    for old, new in itertools.zip_longest(expected, found, fillvalue={}):
        if old != new:
            return [_difference(old, new)]
    return []


def circumstances(expected: Path, found: Path) -> list[str]:
    """Return how the circumstances of the rerun differ from those of the run."""
    first, second = (read_summary(workdir) for workdir in (expected, found))
    return [
        f"{name} {second.get(name)}, was {first.get(name)}"
        for name in CIRCUMSTANCES
        if first.get(name) != second.get(name)
    ]


def file_changes(expected: Path, found: Path) -> list[str]:
    """Return which of the user's own files changed between a run and its rerun."""
    summaries = (read_summary(workdir) for workdir in (expected, found))
    first, second = (each["files"] if "files" in each else {} for each in summaries)
    return [
        f"{name} has changed: {second.get(name)}, was {first.get(name)}"
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def matches(workdir: Path) -> list[str]:
    """Return the values that an identical rerun shares with its run."""
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
