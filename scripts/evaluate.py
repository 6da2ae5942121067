"""Evaluates finished runs: rules of inference, calibration, robustness.

    python scripts/evaluate.py WORKDIR [WORKDIR ...] --rule=scaling,mc --samples=50
    python scripts/evaluate.py WORKDIR --out_of_distribution=digits --corruptions=all

Prints a table and writes into each workdir: `evaluation.json`, `evaluation.md`, and
pictures `evaluation-*.png`. Of several runs, say the seeds of one configuration, it
prints the means with 95 % intervals, and the paired differences from the first rule;
of runs of several plans, it draws all against severity (`evaluation-plans.png`).
Rules: plain, scaling, pooling, mc, shared_mc, gaussian (`training/monte_carlo.py`).
"""

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from evaluation import pictures as evaluation_pictures
from evaluation import predictions as evaluation
from evaluation.corruptions import rotate
from evaluation.inference import SAMPLED
from evaluation.pictures import TITLES, Answers
from evaluation.predictions import Measures, Run, Severities
from evaluation.tables import over_runs, table
from training.record.console import plan_table
from training.record.files import versions, write_atomically

RULES = flags.DEFINE_list("rule", ["scaling", "mc"], "rules of inference, by commas")
SAMPLES = flags.DEFINE_integer("samples", 50, "of the sampled rules", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", 0, "of each split, 0: all", lower_bound=0)
OUTSIDE = flags.DEFINE_string(
    "out_of_distribution", "", "a data set whose test examples are to be told apart"
)
CORRUPTIONS = flags.DEFINE_string("corruptions", "", "all, or names by commas")
CORRUPTED = flags.DEFINE_integer(
    "corrupted_examples", 1000, "test examples that are corrupted", lower_bound=1
)
DATA_DIR = flags.DEFINE_string("data_dir", "", "as in train.py (default: the run's)")

ANGLES = np.linspace(0, 165, 12)
TURNED = 100  # samples for each angle


def main(argv: list[str]) -> None:
    """Evaluates every workdir; usage errors are one line."""
    logging.set_verbosity(logging.FATAL)
    try:
        corruptions = evaluation.check_corruptions(CORRUPTIONS.value)
        if len(argv) < 2:
            raise ValueError("no workdir given; expected the directory of a run.")
        found = [evaluate_all(workdir, corruptions) for workdir in argv[1:]]
    except ValueError as error:
        sys.exit(f"evaluate.py: {error}")
    plans: dict[str, list[dict[str, Any]]] = {}
    for record in chain.from_iterable(found):
        plans.setdefault(record["dropout"], []).append(record)
    for plan, records in plans.items():
        if len(records) > 1:
            print("\n".join(["", plan, *over_runs([r["rules"] for r in records])]))
    if len(plans) > 1 and corruptions:
        path = Path(argv[1], "evaluation-plans.png")
        evaluation_pictures.corrupted(by_plan_and_rule(plans)).savefig(path, dpi=90)
        print(f"plans against severity in {path}")


def by_plan_and_rule(
    plans: dict[str, list[dict[str, Any]]],
) -> dict[str, list[Severities]]:
    """The scores under corruption of the runs of each plan, by plan and rule."""
    return {
        f"{plan}, {rule}": [record["corruptions"][rule] for record in records]
        for plan, records in plans.items()
        for rule in RULES.value
    }


def evaluate_all(workdir: str, corruptions: list[str]) -> list[dict[str, Any]]:
    """The record of a run, or of every member of a population and a page of them."""
    records, paths = [], []
    for run, path in loaded(workdir):
        records.append(evaluate(run, path, corruptions))
        paths.append(path.name)
    if len(records) > 1:
        lines = over_runs([record["rules"] for record in records])
        page = [f"# Evaluation of {Path(workdir).name}", "```", *lines]
        links = [f"- [{name}]({name}/evaluation.md)" for name in paths]
        text = "\n".join([*page, "```", "", *links, ""])
        write_atomically(Path(workdir, "evaluation.md"), text)
    return records


def loaded(workdir: str) -> Iterator[tuple[Run, Path]]:
    """A run and where it is recorded; of a population `member-0`, `member-1`, ..."""
    runs = evaluation.load_runs(workdir, DATA_DIR.value)
    for number, run in enumerate(runs):
        path = Path(workdir, f"member-{number}") if len(runs) > 1 else Path(workdir)
        path.mkdir(exist_ok=True)
        yield run, path


def evaluate(run: Run, path: Path, corruptions: list[str]) -> dict[str, Any]:
    """Evaluates one run, writes all of it, prints its table; the record."""
    cache_dir = run.experiment.config.cache_dir
    jax.config.update("jax_compilation_cache_dir", f"{cache_dir}/xla")
    test = evaluation.held_out(run, "test", EXAMPLES.value)
    measured, answered, robust = {}, {}, {}
    for rule in RULES.value:
        measured[rule], answered[rule], robust[rule] = evaluate_rule(
            run, rule, test, corruptions
        )
    answers = Answers(
        test.images,
        test.labels,
        {rule: found["test"] for rule, found in answered.items()},
    )
    figures = dict(draw(run, answers, answered))
    if corruptions:
        lines = {rule: [scores] for rule, scores in robust.items()}
        figures["corruptions"] = evaluation_pictures.corrupted(lines)
    record = {
        "rules": measured, "corruptions": robust, "samples": SAMPLES.value,
        "examples": EXAMPLES.value, "out_of_distribution": OUTSIDE.value,
        "dropout": run.experiment.config.dropout, "versions": versions(),
    }  # fmt: skip
    write(path, run, record, figures)
    return record


def evaluate_rule(
    run: Run, rule: str, test: evaluation.Part, corruptions: list[str]
) -> tuple[Measures, dict[str, Any], Severities]:
    """Measures of one rule, its answers by part, and its scores under corruption."""
    predict = evaluation.prepare_rule(run, rule, SAMPLES.value)
    found = {"test": evaluation.answer(run, predict, test)}
    measures = evaluation.measure(found["test"], test.labels)
    if len(run.experiment.validation_ids):
        held = evaluation.held_out(run, "validation", EXAMPLES.value)
        measures |= evaluation.measure_tempered(
            found["test"],
            test.labels,
            evaluation.answer(run, predict, held),
            held.labels,
        )
    if OUTSIDE.value:
        outside = evaluation.elsewhere(run, OUTSIDE.value, EXAMPLES.value)
        found["outside"] = evaluation.answer(run, predict, outside)
        measures |= evaluation.measure_outside(found["test"], found["outside"])
    part = test._replace(
        images=test.images[: CORRUPTED.value],
        labels=test.labels[: CORRUPTED.value],
        ids=test.ids[: CORRUPTED.value],
    )
    clean = found["test"][:, : CORRUPTED.value]
    robust = evaluation.measure_corrupted(run, predict, part, clean, corruptions)
    return measures, found, robust


def draw(
    run: Run, answers: Answers, answered: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, Figure]]:
    """Every picture that the answers allow, by name."""
    rules = list(answers.by_rule)
    sampled = [rule for rule in rules if rule in SAMPLED]
    shown = (sampled or rules)[0]
    yield "reliability", evaluation_pictures.reliability(answers)
    yield "risk-coverage", evaluation_pictures.risk_coverage(answers)
    yield "uncertain", evaluation_pictures.most_uncertain(answers, shown)
    if sampled:
        yield "samples", evaluation_pictures.error_by_samples(answers, shown)
        yield "rotation", draw_rotation(run, answers, shown)
    if OUTSIDE.value:
        found = answered[shown]
        names = (run.experiment.config.dataset, OUTSIDE.value)
        yield (
            "entropy",
            evaluation_pictures.entropies(found["test"], found["outside"], names),
        )


def draw_rotation(run: Run, answers: Answers, rule: str) -> Figure:
    """The first test image of class 1, as in the published figure, turned."""
    example = int(np.argmax(answers.labels == 1))
    image = jnp.asarray(answers.images[example], jnp.float32)
    turned = jax.vmap(rotate, (None, 0))(image, jnp.asarray(ANGLES, jnp.float32))
    images = np.asarray(turned).astype(answers.images.dtype)
    part = evaluation.Part(
        "rotation",
        images,
        np.ones(len(ANGLES), np.int32),
        np.arange(len(ANGLES), dtype=np.int32),
    )
    predict = evaluation.prepare_rule(run, rule, TURNED, len(ANGLES))
    samples = evaluation.answer(run, predict, part)
    return evaluation_pictures.rotated(images.astype(np.float32), ANGLES, samples)


def write(
    path: Path, run: Run, record: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """Writes the record, its table and the pictures into the workdir, and prints."""
    lines = table(record["rules"])
    write_atomically(path / "evaluation.json", json.dumps(record, indent=2) + "\n")
    for name, figure in figures.items():
        figure.savefig(path / f"evaluation-{name}.png", dpi=90)
    pictures = [
        f"## {TITLES[name]}\n\n![{name}](evaluation-{name}.png)" for name in figures
    ]
    plan = plan_table(run.experiment)
    page = [f"# Evaluation of {path.name}", "```", *plan, "```", "```", *lines, "```"]
    write_atomically(path / "evaluation.md", "\n\n".join(["\n".join(page), *pictures]))
    print("\n".join([f"\n{path}", *lines]), flush=True)
    print(f"record and {len(figures)} pictures in {path / 'evaluation.md'}", flush=True)


if __name__ == "__main__":
    app.run(main)
