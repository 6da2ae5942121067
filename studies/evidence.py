"""The numbers of finished runs and studies that gates are about, by arm and seed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from studies.comparison import QUANTITIES
from studies.outcomes import read_results
from studies.selection import POINTS
from studies.study import RESULTS
from training.record.files import read_summary
from training.record.metrics_log import read_metrics

Measures = dict[str, float]
BySeed = dict[int, Measures]
SHIFT = "variance_shift/"
SPREAD = "spread of "
EVALUATION = "evaluation.json"
SAMPLES = "evaluation-samples.csv"
RECALIBRATED = "recalibrated.json"


def study_evidence(directory: Path) -> dict[str, BySeed]:
    """Return the measures of each arm of a study, named as in its table.

    An arm that a sweep chose is named by the plan of its family. The spread of a
    measure is its distance from the arm's median over seeds, whose mean over seeds is
    compared as in the test of Brown and Forsythe (1974) for unequal variances.
    """
    names = study_arms(directory / POINTS)
    found: dict[str, BySeed] = {}
    for row in read_results(directory / RESULTS).iter_rows(named=True):
        arm = names[row["arm"]] if names else row["arm"]
        found.setdefault(arm, {})[row["seed"]] = _of_row(row)
    return {arm: _with_spreads(by_seed) for arm, by_seed in found.items()}


def study_arms(points: Path) -> dict[str, str]:
    """Return the plan of each family of a sweep by the arm chosen in it.

    It is empty for a study without the file of points, which is no sweep.
    """
    if not points.exists():
        return {}
    chosen = pl.read_parquet(points).filter("chosen")
    return dict(chosen.select("arm", "family").iter_rows())


def _of_row(row: dict[str, Any]) -> Measures:
    measures = {
        quantity.name: row[quantity.column] * quantity.scale
        for quantity in QUANTITIES
        if row[quantity.column] is not None
    }
    if row["gap"] is not None:
        measures["train error, %"] = 100 * (row["test_error"] - row["gap"])
    return measures


def _with_spreads(by_seed: BySeed) -> BySeed:
    names = set.intersection(*(set(measures) for measures in by_seed.values()))
    medians = {n: float(np.median([m[n] for m in by_seed.values()])) for n in names}
    return {
        seed: {**found, **{SPREAD + n: abs(found[n] - medians[n]) for n in names}}
        for seed, found in by_seed.items()
    }


def run_evidence(workdirs: list[Path]) -> BySeed:
    """Return the measures of runs, or of all members of populations, by seed."""
    found: BySeed = {}
    for workdir in workdirs:
        for seed, measures in _of_workdir(workdir):
            found.setdefault(seed, {}).update(measures)
    return found


def _of_workdir(workdir: Path) -> Iterator[tuple[int, Measures]]:
    summary = read_summary(workdir)
    runs = summary["members"] if "members" in summary else [summary]
    lines = read_metrics(workdir)
    for number, run in enumerate(runs):
        tests = [
            line
            for line in lines
            if line["split"] == "test" and _member(line) in (number, None)
        ]
        yield run["seed"], {**_of_summary(run), **_of_shifts(tests[-1:])}
    for path in (workdir, *sorted(workdir.glob("member-*"))):
        if (path / EVALUATION).is_file():
            yield _of_evaluation(path)
    if (workdir / RECALIBRATED).is_file():
        yield summary["seed"], _of_recalibration(workdir)


def _member(line: dict[str, Any]) -> int | None:
    return line["member"] if "member" in line else None


def _of_summary(run: dict[str, Any]) -> Measures:
    found = {
        "test error, %": 100 * (1 - run["test_accuracy"]),
        "train error, %": 100 * (1 - run["train_accuracy"]),
        "NLL": run["test_loss"],
    }
    if "compression" in run:
        found["compression"] = run["compression"]
    return found


def _of_shifts(lines: list[dict[str, Any]]) -> Measures:
    """Return how far the worst norm is from its running variance, as a factor."""
    shifts = [v for line in lines for n, v in line.items() if n.startswith(SHIFT)]
    if not shifts:
        return {}
    return {"largest variance shift": max(max(v, 1 / v) for v in shifts)}


def _of_evaluation(path: Path) -> tuple[int, Measures]:
    record = json.loads((path / EVALUATION).read_text())
    found = {}
    for rule, scores in record["rules"].items():
        found[f"{rule}: error, %"] = 100 * (1 - scores["accuracy"])
        found |= {f"{rule}: {name}": value for name, value in scores.items()}
    if (path / SAMPLES).is_file():
        for row in pl.read_csv(path / SAMPLES).iter_rows(named=True):
            name = f"{row['inference']}: error after {row['samples']} samples, %"
            found[name] = 100 * row["error"]
    return record["seed"], found


def _of_recalibration(workdir: Path) -> Measures:
    found = json.loads((workdir / RECALIBRATED).read_text())["after"]
    return {
        "recalibrated: error, %": 100 * (1 - found["accuracy"]),
        "recalibrated: NLL": found["loss"],
    }
