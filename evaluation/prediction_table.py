"""Predictions as data: a table with a row per run, inference rule and example."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from dropout import Plan
from evaluation import measures
from evaluation.measures import Samples
from evaluation.other_plans import by_plan, rules_that_fit
from evaluation.predictions import (
    Part,
    Run,
    check_split,
    held_out,
    in_folder,
    load_runs,
    out_of_distribution,
    predict_part,
    prepare_inference,
)
from training.record.files import replacing
from training.runtime.compilation import use_compilation_cache

FORMATS = (".parquet", ".csv", ".npz")
PROBABILITY = "probability_"  # The columns of the classes are probability_0, ...
OWN_SPLITS = ("test", "validation")

Columns = dict[str, Any]


class PredictionRequest(NamedTuple):
    """What to predict with every run.

    Attributes:
        inferences: the names of the inference rules.
        samples: the number of samples of the inference rules that sample.
        examples: how many examples of each source are used; 0 for all.
        sources: what is predicted: test, validation, folders of images, data sets.
        plans: further plans to predict under, beside the run's own.
        weights: the last parameters or their average, one of `WEIGHTS`.
    """

    inferences: list[str]
    samples: int
    examples: int
    sources: list[str]
    plans: list[Plan]
    weights: str = "last"


def check_file(path: str) -> None:
    """Raise ValueError for a file that predictions cannot be written to."""
    if Path(path).suffix not in FORMATS:
        raise ValueError(
            f"--predictions={path}: expected a file that ends in {', '.join(FORMATS)}."
        )
    if not Path(path).parent.is_dir():
        raise ValueError(f"--predictions={path}: {Path(path).parent} is no directory.")


def predict_workdirs(
    workdirs: list[str], request: PredictionRequest, data_dir: str, cache_dir: str
) -> pl.DataFrame:
    """Return the predictions of every run, and of every member of a population."""
    return pl.concat(
        chain.from_iterable(
            _predict_workdir(workdir, request, data_dir, cache_dir)
            for workdir in workdirs
        ),
        how="diagonal",
    )


def write_predictions(path: Path, table: pl.DataFrame) -> None:
    """Write a table whole or not at all, in the format that the file's name says."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.write_parquet(temporary)
        elif path.suffix == ".csv":
            table.write_csv(temporary)
        else:
            np.savez_compressed(temporary, allow_pickle=False, **as_arrays(table))


def as_arrays(table: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns as arrays, with all probabilities in one.

    A label that is not known is -1, and a name that is missing is empty.
    """
    classes = [name for name in table.columns if name.startswith(PROBABILITY)]
    others = table.drop(classes)
    columns = {name: others[name] for name in others.columns}
    texts = [name for name, column in columns.items() if column.dtype == pl.String]
    return {
        **{name: column.fill_null(-1).to_numpy() for name, column in columns.items()},
        **{name: np.array(columns[name].fill_null("").to_list()) for name in texts},
        "probabilities": table.select(classes).to_numpy(),
    }


def rows_of(part: Part, samples: Samples) -> Columns:
    """Return the columns that belong to examples: what they are, what is predicted."""
    predicted = measures.averaged(samples)
    labels = pl.Series(part.labels)
    return {
        "id": pl.Series(part.ids),
        "image_file": pl.Series(part.files or [None] * len(part.ids), dtype=pl.String),
        "label": labels.set(labels < 0, None),
        "entropy": pl.Series(measures.entropy(predicted)),
        "mutual_information": pl.Series(measures.mutual_information(samples)),
        **{
            f"{PROBABILITY}{label}": pl.Series(column)
            for label, column in enumerate(np.exp(predicted).T)
        },
    }


def part_of(run: Run, source: str, most: int) -> Part:
    """Return the examples of a source: a split of the run's, a folder, a data set.

    Raises:
        ValueError: the run has no such split, or the source cannot be read.
    """
    if source in OWN_SPLITS:
        check_split(run, source)
        return held_out(run, source, most)
    if Path(source).is_dir():
        return in_folder(run, source, most)
    return out_of_distribution(run, source, most)


def _predict_workdir(
    workdir: str, request: PredictionRequest, data_dir: str, cache_dir: str
) -> Iterator[pl.DataFrame]:
    runs = load_runs(workdir, data_dir, cache_dir, request.weights)
    use_compilation_cache(runs[0].experiment.config.cache_dir)
    for member, run in enumerate(runs):
        for other in by_plan(run, request.plans):
            plan = other.experiment.config.dropout
            head = {"workdir": workdir, "member": member, "dropout": plan}
            head["weights"] = run.weights
            for columns in _predict_run(other, request):
                yield pl.DataFrame({**head, **columns})


def _predict_run(run: Run, request: PredictionRequest) -> Iterator[Columns]:
    parts = {
        source: part_of(run, source, request.examples) for source in request.sources
    }
    # Of several plans, not each has sites for every inference rule.
    fitting = rules_that_fit(run, request.inferences)
    for inference in fitting if request.plans else request.inferences:
        predict = prepare_inference(run, inference, request.samples)
        for source, part in parts.items():
            rows = rows_of(part, predict_part(run, predict, part))
            yield {"rule": inference, "split": source, **rows}
