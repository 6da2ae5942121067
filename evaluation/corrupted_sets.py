"""Prepared data sets of corrupted images, such as `cifar10_corrupted`, as test sets.

Source: Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR.
"""

from fnmatch import filter as matching

import numpy as np

from dropout.grammar import suggest
from evaluation.inference import Predict
from evaluation.measures import averaged
from evaluation.predictions import Part, Run, image_shape, predict_part
from evaluation.scores import SCORES, ScoresByName
from evaluation.streamed_images import images_and_labels
from evaluation.tables import table
from training.data.augmentation import crop_of, parse_augmentations
from training.data.prepared import open_prepared, prepared_names

SetScores = dict[str, ScoresByName]  # By the name of the data set.


def find_sets(run: Run, patterns: tuple[str, ...]) -> list[str]:
    """Return the prepared data sets that patterns such as `cifar10_corrupted/*` match.

    Raises:
        ValueError: a pattern matches none.
    """
    names = prepared_names(run.experiment.config.data_dir) if patterns else []
    found = []
    for pattern in patterns:
        matched = matching(names, pattern)
        if not matched:
            raise ValueError(
                f"--corrupted={pattern}: not prepared{suggest(pattern, names)}."
            )
        found += matched
    return list(dict.fromkeys(found))


def corrupted_part(run: Run, dataset: str, most: int) -> Part:
    """Return the first `most` (0: all) examples of a data set as test examples.

    They are read and masked as those of the run's own test split.

    Raises:
        ValueError: its images or its classes are not those of the run.
    """
    config, data = run.experiment.config, run.experiment.data
    crop = crop_of(parse_augmentations(config.augment))
    splits = (config.test_split, config.test_split)
    found = open_prepared(dataset, config.data_dir, splits, crop)
    if found.test.image_shape != image_shape(run) or found.classes > data.classes:
        raise ValueError(
            f"--corrupted={dataset}: {found.test.image_shape} images of "
            f"{found.classes} classes; expected the run's {image_shape(run)} and "
            f"{data.classes}."
        )
    ids = np.arange(min(found.test.size, most or found.test.size), dtype=np.int32)
    return Part("test", *images_and_labels(found.test, ids, config), ids)


def score_sets(run: Run, predict: Predict, names: list[str], most: int) -> SetScores:
    """Return the scores of an inference rule on each data set."""
    return {
        name: _scores(run, predict, corrupted_part(run, name, most)) for name in names
    }


def set_lines(by_inference: dict[str, SetScores]) -> list[str]:
    """Return a table with a line per data set and score, and their means, if any."""
    found = {rule: _flat(sets) for rule, sets in by_inference.items() if sets}
    return ["", *table(found)] if found else []


def _flat(sets: SetScores) -> ScoresByName:
    rows = {
        f"{name}: {score}": value
        for name, found in sets.items()
        for score, value in found.items()
    }
    means = {
        f"mean of {len(sets)} sets: {score}": float(
            np.mean([found[score] for found in sets.values()])
        )
        for score in SCORES
    }
    return {**rows, **means}


def _scores(run: Run, predict: Predict, part: Part) -> ScoresByName:
    predicted = averaged(predict_part(run, predict, part))
    return {name: function(predicted, part.labels) for name, function in SCORES.items()}
