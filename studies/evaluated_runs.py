"""Evaluations of several runs: one for each workdir, and tables over all runs."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float

from evaluation.evaluate import EvaluationRequest, Record, evaluate
from evaluation.pictures import plot_corrupted
from evaluation.predictions import Run, load_runs
from evaluation.scores import ScoresByName, Severities
from evaluation.tables import ABSENT, score_names
from studies.statistics import Estimate, interval, paired_t
from training.record.claim import check_no_links
from training.record.console import aligned
from training.record.files import write_atomically
from training.record.markdown import fenced, literal
from training.record.pictures import save_picture
from training.runtime.compilation import use_compilation_cache

PLANS_PICTURE = "evaluation-plans.png"


def evaluate_workdirs(
    workdirs: list[str], request: EvaluationRequest, data_dir: str, cache_dir: str
) -> None:
    """Evaluate every workdir, and print tables over the runs of each plan.

    Raises:
        ValueError: a workdir holds no run that can be evaluated.
    """
    found = [
        evaluate_workdir(workdir, request, data_dir, cache_dir) for workdir in workdirs
    ]
    plans: dict[str, list[Record]] = {}
    for record in chain.from_iterable(found):
        plans.setdefault(record["dropout"], []).append(record)
    for plan, records in plans.items():
        if len(records) > 1:
            print("\n".join(["", plan, *over_runs([r["rules"] for r in records])]))
    if len(plans) > 1 and request.corruptions:
        path = Path(workdirs[0], PLANS_PICTURE)
        lines = by_plan_and_inference(plans, request.inferences)
        save_picture(plot_corrupted(lines), path)
        print(f"plans against severity in {path}")


def evaluate_workdir(
    workdir: str, request: EvaluationRequest, data_dir: str, cache_dir: str
) -> list[Record]:
    """Evaluate a run, or every member of a population, and return the records.

    A population also gets a page with the table over its members.
    """
    runs, records, paths = load_runs(workdir, data_dir, cache_dir), [], []
    check_no_links(Path(workdir))
    use_compilation_cache(runs[0].experiment.config.cache_dir)
    for run, path in runs_with_paths(workdir, runs):
        records.append(evaluate(run, path, request))
        paths.append(path.name)
    if len(records) > 1:
        lines = over_runs([record["rules"] for record in records])
        title = f"# Evaluation of {literal(Path(workdir).name)}"
        links = [f"- [{name}]({name}/evaluation.md)" for name in paths]
        text = "\n".join([title, fenced(lines), "", *links, ""])
        write_atomically(Path(workdir, "evaluation.md"), text)
    return records


def by_plan_and_inference(
    plans: dict[str, list[Record]], inferences: list[str]
) -> dict[str, list[Severities]]:
    """Return each run's scores of corrupted images, by plan and inference rule."""
    return {
        f"{plan}, {inference}": [record["corruptions"][inference] for record in records]
        for plan, records in plans.items()
        for inference in inferences
    }


def over_runs(results: list[dict[str, ScoresByName]]) -> list[str]:
    """Return a table of means with 95 % intervals over runs.

    Further columns show the paired difference of each inference rule to the first, and
    the number of runs in which it is negative.
    """
    inferences = list(results[0])
    differences = [f"{inference} - {inferences[0]}" for inference in inferences[1:]]
    rows = [["", *inferences, *differences, "runs below"]]
    for name in score_names(results):
        values = {
            inference: np.asarray([run[inference][name] for run in results])
            for inference in inferences
            if all(name in run[inference] for run in results)
        }
        rows.append([name, *_cells(inferences, values)])
    return [f"{len(results)} runs: mean [95 % interval]", *aligned(rows)]


def runs_with_paths(workdir: str, runs: list[Run]) -> Iterator[tuple[Run, Path]]:
    """Pair runs with directories; for a population, `member-0`, `member-1`, ..."""
    for number, run in enumerate(runs):
        path = Path(workdir, f"member-{number}") if len(runs) > 1 else Path(workdir)
        path.mkdir(exist_ok=True)
        yield run, path


def _cells(
    inferences: list[str], values: dict[str, Float[np.ndarray, " runs"]]
) -> list[str]:
    """Return the cells of one score: means, differences and counts of negative ones."""
    first, *others = inferences
    pairs = [
        values[inference] - values[first]
        if {inference, first} <= values.keys()
        else None
        for inference in others
    ]
    means = [
        _text(interval(values[inference])) if inference in values else ABSENT
        for inference in inferences
    ]
    differences = [
        ABSENT if pair is None else _text(paired_t(pair).difference) for pair in pairs
    ]
    below = [
        ABSENT if pair is None else f"{(pair < 0).sum()}/{len(pair)}" for pair in pairs
    ]
    return [*means, *differences, ", ".join(below)]


def _text(estimate: Estimate) -> str:
    return f"{estimate.mean:.5f} [{estimate.low:.5f}, {estimate.high:.5f}]"
