"""Runs under plans that they were not trained with, compared in one table."""

import json
from pathlib import Path
from typing import Any

from dropout import Plan
from evaluation.evaluate import EvaluationRequest, run_identity
from evaluation.other_plans import evaluate_plans, parse_plans
from evaluation.predictions import Run, check_split, load_runs
from evaluation.scores import ScoresByName
from evaluation.tables import table
from studies.evaluated_runs import by_configuration, over_runs, runs_with_paths
from training.record.files import write_atomically
from training.record.markdown import fenced, literal
from training.record.same_run import check_no_links
from training.record.versions import versions
from training.runtime.compilation import use_compilation_cache

RECORD = "other-plans"  # The name of the files of a comparison.


def compare_plans(
    workdirs: list[str],
    texts: list[str],
    request: EvaluationRequest,
    fit_rate: bool,
    data_dir: str,
    cache_dir: str,
) -> None:
    """Evaluate every run under its own plan and others; print and write the tables.

    Runs that differ in their seeds alone share a table of means.

    Raises:
        ValueError: a text is no plan or does not fit a network, no inference rule fits
            a plan, or a rate is to be fitted to a run without validation data.
    """
    plans = parse_plans(texts)
    runs = {
        workdir: load_runs(workdir, data_dir, cache_dir, request.weights)
        for workdir in workdirs
    }
    if fit_rate:
        for run in (run for found in runs.values() for run in found):
            check_split(run, "validation")
    records = []
    for workdir, found in runs.items():
        check_no_links(Path(workdir))
        use_compilation_cache(found[0].experiment.config.cache_dir)
        for number, (run, path) in enumerate(runs_with_paths(workdir, found)):
            member = number if len(found) > 1 else None
            records.append(compare_run(run, member, plans, request, fit_rate))
            write_comparison(path, records[-1])
    for label, group in by_configuration(records).items():
        if len(group) > 1:
            results = [record["rules"] for record in group]
            print("\n".join(["", *plan_lines(label, plans), *shared(results)]))


def compare_run(
    run: Run,
    member: int | None,
    plans: list[Plan],
    request: EvaluationRequest,
    fit_rate: bool,
) -> dict[str, Any]:
    """Return the scores of one run under its own plan and others, as a record.

    Raises:
        ValueError: a plan does not fit the network, or no inference rule fits a plan.
    """
    found = dict(evaluate_plans(run, plans, request, fit_rate))
    if not found:
        raise ValueError(
            f"--rule={','.join(request.inferences)}: no plan has sites for it; "
            "expected a plan with dropout, or --rule=scaling."
        )
    return {
        "plans": [run.experiment.config.dropout, *map(str, plans)],
        "rules": {name: result.scores for name, result in found.items()},
        "corruptions": {name: result.corrupted for name, result in found.items()},
        **run_identity(run, member),
        "samples": request.samples,
        "examples": request.examples,
        "out_of_distribution": request.out_of_distribution,
        "versions": versions(),
    }


def write_comparison(path: Path, record: dict[str, Any]) -> None:
    """Write a record and a page with its table into a directory, and print it."""
    own, *others = record["plans"]
    lines = [*plan_lines(own, others), *table(record["rules"])]
    write_atomically(path / f"{RECORD}.json", json.dumps(record, indent=2) + "\n")
    title = f"# {literal(path.name)} under other plans, step {record['step']:,}"
    write_atomically(path / f"{RECORD}.md", "\n".join([title, fenced(lines)]) + "\n")
    print("\n".join([f"\n{path}", *lines]), flush=True)


def plan_lines(own: str, others: list[Any]) -> list[str]:
    """Return the numbers of the plans, as the columns of the table begin with them."""
    trained = f"1: {own} (trained)"
    return [trained, *(f"{n}: {plan}" for n, plan in enumerate(others, 2)), ""]


def shared(results: list[dict[str, ScoresByName]]) -> list[str]:
    """Return the table over runs, of the columns that all of them have."""
    first, *others = results
    names = [name for name in first if all(name in other for other in others)]
    return over_runs([{name: found[name] for name in names} for found in results])
