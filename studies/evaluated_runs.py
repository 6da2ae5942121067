"""Evaluations of several runs: one for each workdir, and tables over all runs."""

import json
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
from training.members import OWN_SEEDS
from training.record.console import aligned
from training.record.files import write_atomically
from training.record.markdown import fenced, literal
from training.record.pictures import article_style, save_picture
from training.record.same_run import check_no_links
from training.runtime.compilation import use_compilation_cache

SEEDS = ("seed", *OWN_SEEDS)
PLANS_PICTURE = "evaluation-plans.png"


def evaluate_workdirs(
    workdirs: list[str], request: EvaluationRequest, data_dir: str, cache_dir: str
) -> None:
    """Evaluate every workdir, and print a table over the seeds of each configuration.

    Raises:
        ValueError: a workdir holds no run that can be evaluated.
    """
    found = [
        evaluate_workdir(workdir, request, data_dir, cache_dir)
        for workdir in dict.fromkeys(workdirs)
    ]
    groups = by_configuration(list(chain.from_iterable(found)))
    print("\n".join(over_seeds(groups)))
    if len(groups) > 1 and request.corruptions:
        path = Path(workdirs[0], PLANS_PICTURE)
        lines = by_group_and_inference(groups, request.inferences)
        with article_style():
            save_picture(plot_corrupted(lines), path)
        print(f"configurations against severity in {path}")


def by_configuration(records: list[Record]) -> dict[str, list[Record]]:
    """Return records by configuration: those of a group differ in their seeds alone.

    The key is the plan, with the flags and the step in which the groups differ. Of two
    records with the same seeds, one is of the same run, and only the last is kept.
    """
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        group = groups.setdefault(_text_of(_without_seeds(record)), {})
        group[_text_of({n: record["configuration"][n] for n in SEEDS})] = record
    found = [list(group.values()) for group in groups.values()]
    settings = [_without_seeds(group[0]) for group in found]
    differing = [n for n in settings[0] if len({str(s[n]) for s in settings}) > 1]
    return {
        _label(each, differing): group
        for each, group in zip(settings, found, strict=True)
    }


def _without_seeds(record: Record) -> Record:
    own = {n: v for n, v in record["configuration"].items() if n not in SEEDS}
    return {**own, "step": record["step"]}


def _text_of(values: Record) -> str:
    return json.dumps(values, sort_keys=True)


def _label(settings: Record, differing: list[str]) -> str:
    flags = [f"--{name}={settings[name]}" for name in differing if name != "dropout"]
    return " ".join([settings["dropout"], *flags])


def over_seeds(groups: dict[str, list[Record]]) -> list[str]:
    """Return a table over the runs of each configuration that has several."""
    lines = []
    for label, records in groups.items():
        if len(records) > 1:
            lines += ["", label, *over_runs([record["rules"] for record in records])]
    return lines


def evaluate_workdir(
    workdir: str, request: EvaluationRequest, data_dir: str, cache_dir: str
) -> list[Record]:
    """Evaluate a run, or every member of a population, and return the records.

    A population also gets a page with the table over its members.
    """
    runs = load_runs(workdir, data_dir, cache_dir, request.weights)
    records, paths = [], []
    check_no_links(Path(workdir))
    use_compilation_cache(runs[0].experiment.config.cache_dir)
    for number, (run, path) in enumerate(runs_with_paths(workdir, runs)):
        member = number if len(runs) > 1 else None
        records.append(evaluate(run, member, path, request))
        paths.append(path.name)
    if len(records) > 1:
        lines = over_seeds(by_configuration(records))
        title = f"# Evaluation of {literal(Path(workdir).name)}"
        links = [f"- [{name}]({name}/evaluation.md)" for name in paths]
        text = "\n".join([title, fenced(lines), "", *links, ""])
        write_atomically(Path(workdir, "evaluation.md"), text)
    return records


def by_group_and_inference(
    groups: dict[str, list[Record]], inferences: list[str]
) -> dict[str, list[Severities]]:
    """Return each run's scores of corrupted images, by group and inference rule."""
    return {
        f"{label}, {inference}": [
            record["corruptions"][inference] for record in records
        ]
        for label, records in groups.items()
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
