"""The evaluation of one finished run: its scores, pictures and record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from evaluation import example_pictures, pictures, scores
from evaluation.corrupted_sets import (
    SetScores,
    find_sets,
    score_sets,
    set_lines,
)
from evaluation.corruptions import rotate
from evaluation.curves import curves
from evaluation.inference import SAMPLED
from evaluation.measures import Samples
from evaluation.predictions import (
    Part,
    Predictions,
    Run,
    held_out,
    out_of_distribution,
    predict_part,
    prepare_inference,
)
from evaluation.scores import ScoresByName, Severities
from evaluation.tables import table
from training.config import FIELDS
from training.record.console import plan_table
from training.record.files import replacing, write_atomically
from training.record.markdown import fenced, literal
from training.record.pictures import article_style, save_picture
from training.record.versions import versions
from training.state import steps_done

TITLES = {
    "reliability": "Accuracy against confidence",
    "risk-coverage": "Error among the most confident examples",
    "uncertain": "The most uncertain test images",
    "samples": "Error and likelihood by number of samples",
    "rotation": "A rotated test image",
    "entropy": "Uncertainty in and out of distribution",
    "corruptions": "Accuracy and calibration under corruption",
}
ANGLES = np.linspace(0, 165, 12)
ROTATION_SAMPLES = 100  # The number of samples for each angle.
ROTATED_CLASS = 1  # The published figure rotates a one.

Record = dict[str, Any]


class EvaluationRequest(NamedTuple):
    """What to evaluate in every run.

    Attributes:
        inferences: the names of the inference rules.
        samples: the number of samples of the inference rules that sample.
        examples: how many examples of each split are used; 0 for all.
        out_of_distribution: a data set to distinguish from the test set, or empty.
        corruptions: the names of the corruptions, which may be none.
        corrupted_examples: how many test examples are corrupted.
        corrupted_sets: patterns of prepared data sets of corrupted images.
        weights: the last parameters or their average, one of `WEIGHTS`.
    """

    inferences: list[str]
    samples: int
    examples: int
    out_of_distribution: str
    corruptions: list[str]
    corrupted_examples: int
    corrupted_sets: tuple[str, ...] = ()
    weights: str = "last"


class InferenceResult(NamedTuple):
    """The results of one inference rule: scores, and the samples they come from."""

    scores: ScoresByName
    corrupted: Severities
    test: Samples
    outside: Samples | None
    sets: SetScores


def evaluate(
    run: Run, member: int | None, path: Path, request: EvaluationRequest
) -> Record:
    """Evaluate one run, write all results into `path`, and print the table.

    `member` is the run's number in its population, or None.
    """
    test = held_out(run, "test", request.examples)
    results = {
        inference: evaluate_inference_rule(run, inference, test, request)
        for inference in request.inferences
    }
    divergence = scores.score_divergence(
        {inference: result.test for inference, result in results.items()}
    )
    record = {
        "rules": {
            inference: result.scores | divergence[inference]
            for inference, result in results.items()
        },
        "corruptions": {
            inference: result.corrupted for inference, result in results.items()
        },
        "corrupted_sets": {
            inference: result.sets for inference, result in results.items()
        },
        **run_identity(run, member),
        "samples": request.samples,
        "examples": request.examples,
        "out_of_distribution": request.out_of_distribution,
        "versions": versions(),
    }
    write_record(path, run, record)
    write_curves(path, test, results)
    write_pictures(path, run, record, plot_all(run, test, results, request))
    return record


def run_identity(run: Run, member: int | None) -> Record:
    """Return which run a record is about, with all the flags that make it."""
    config = run.experiment.config
    return {
        "dropout": config.dropout,
        "model": config.model,
        "rate_factor": config.rate_factor,
        "seed": config.seed,
        "member": member,
        "step": steps_done(run.state),
        "weights": run.weights,
        "configuration": {
            name: getattr(config, name)
            for name, item in FIELDS.items()
            if not item.metadata["resumable"]
        },
    }


def evaluate_inference_rule(
    run: Run, inference: str, test: Part, request: EvaluationRequest
) -> InferenceResult:
    """Evaluate one inference rule on every data set and corruption requested."""
    predict = prepare_inference(run, inference, request.samples)
    samples, outside = predict_part(run, predict, test), None
    found = scores.score(samples, test.labels)
    if len(run.experiment.validation_ids):
        held = held_out(run, "validation", request.examples)
        predicted = predict_part(run, predict, held)
        found |= scores.score_tempered(samples, test.labels, predicted, held.labels)
    if request.out_of_distribution:
        other = out_of_distribution(run, request.out_of_distribution, request.examples)
        outside = predict_part(run, predict, other)
        found |= scores.score_outside(samples, outside)
    most = request.corrupted_examples
    corrupted = scores.score_corrupted(
        run, predict, test.first(most), samples[:, :most], request.corruptions
    )
    names = find_sets(run, request.corrupted_sets)
    sets = score_sets(run, predict, names, request.examples)
    return InferenceResult(found, corrupted, samples, outside, sets)


def plot_all(
    run: Run,
    test: Part,
    results: dict[str, InferenceResult],
    request: EvaluationRequest,
) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the figure of every picture that the results allow."""
    by_inference = {inference: result.test for inference, result in results.items()}
    predictions = Predictions(test.images, test.labels, by_inference)
    sampled = [inference for inference in results if inference in SAMPLED]
    shown = (sampled or list(results))[0]
    yield "reliability", pictures.plot_reliability(predictions)
    yield "risk-coverage", pictures.plot_risk_coverage(predictions)
    yield "uncertain", example_pictures.plot_most_uncertain(predictions, shown)
    if sampled:
        yield "samples", pictures.plot_error_by_samples(predictions, shown)
        yield "rotation", plot_rotation(run, test, shown)
    outside = results[shown].outside
    if outside is not None:
        names = (run.experiment.config.dataset, request.out_of_distribution)
        yield "entropy", pictures.plot_entropies(by_inference[shown], outside, names)
    if request.corruptions:
        lines = {inference: [result.corrupted] for inference, result in results.items()}
        yield "corruptions", pictures.plot_corrupted(lines)


def plot_rotation(run: Run, test: Part, inference: str) -> Figure:
    """Plot the predictions for the first test image of a class as it rotates."""
    image = jnp.asarray(
        test.images[int(np.argmax(test.labels == ROTATED_CLASS))], jnp.float32
    )
    turned = jax.vmap(rotate, (None, 0))(image, jnp.asarray(ANGLES, jnp.float32))
    count, images = len(ANGLES), np.asarray(turned).astype(test.images.dtype)
    part = Part(
        "rotation",
        images,
        np.full(count, ROTATED_CLASS, np.int32),
        np.arange(count, dtype=np.int32),
    )
    predict = prepare_inference(run, inference, ROTATION_SAMPLES, count)
    samples = predict_part(run, predict, part)
    return example_pictures.plot_rotated(images.astype(np.float32), ANGLES, samples)


def write_record(path: Path, run: Run, record: Record) -> None:
    """Write the record and a page with its table into a directory, and print it."""
    write_atomically(path / "evaluation.json", json.dumps(record, indent=2) + "\n")
    write_atomically(path / "evaluation.md", page(path, run, record))
    lines = [*table(record["rules"]), *set_lines(record["corrupted_sets"])]
    print("\n".join([f"\n{path}", *lines]), flush=True)


def write_curves(path: Path, test: Part, results: dict[str, InferenceResult]) -> None:
    """Write the numbers of each curve as `evaluation-*.csv`, beside its picture."""
    by_inference = {inference: result.test for inference, result in results.items()}
    outside = {
        inference: result.outside
        for inference, result in results.items()
        if result.outside is not None
    }
    predictions = Predictions(test.images, test.labels, by_inference)
    for name, numbers in curves(predictions, outside):
        with replacing(path / f"evaluation-{name}.csv") as temporary:
            numbers.write_csv(temporary)


def write_pictures(
    path: Path, run: Run, record: Record, figures: Iterator[tuple[str, Figure]]
) -> None:
    """Write the pictures, as PNG, SVG and PDF, and the page with links to them."""
    sections = []
    with article_style():
        for name, figure in figures:
            save_picture(figure, path / f"evaluation-{name}.png")
            sections.append(f"## {TITLES[name]}\n\n![{name}](evaluation-{name}.png)")
    text = "\n\n".join([page(path, run, record), *sections])
    write_atomically(path / "evaluation.md", text)
    print(
        f"record and {len(sections)} pictures in {path / 'evaluation.md'}", flush=True
    )


def page(path: Path, run: Run, record: Record) -> str:
    """Return the page of an evaluation without its pictures."""
    return "\n".join(
        [
            f"# Evaluation of {literal(path.name)}, step {record['step']:,}, "
            f"{record['weights']} weights",
            fenced(plan_table(run.experiment)),
            fenced([*table(record["rules"]), *set_lines(record["corrupted_sets"])]),
        ]
    )
