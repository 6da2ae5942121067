"""A trained network as a function of images: `load(workdir)` and call it.

from evaluation.predictor import load

predict = load("runs/NAME")
predict(images, samples=50).probabilities
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from evaluation import measures
from evaluation.inference import CHUNK, Predict, check_inference_rule
from evaluation.measures import PerExample, Samples
from evaluation.predictions import (
    Run,
    StoredImages,
    check_pixels,
    image_shape,
    images_alone,
    load_runs,
    predict_part,
    prepare_inference,
)
from training.runtime.compilation import use_compilation_cache

SAMPLES = 50


class Prediction(NamedTuple):
    """What a network predicts for images.

    Attributes:
        probabilities: the mean over samples of the probability of each class.
        entropy: the entropy of these, in nats: how undecided the mean is.
        mutual_information: how far the samples disagree, in nats; 0 for one sample.
        samples: the log-probabilities of each sample.
    """

    probabilities: Float[np.ndarray, "n classes"]
    entropy: PerExample
    mutual_information: PerExample
    samples: Samples


def load(
    workdir: str,
    rule: str = "mc",
    member: int = 0,
    data_dir: str = "",
    cache_dir: str = "",
    weights: str = "last",
) -> Callable[..., Prediction]:
    """Return the newest state of a run as a function `(images, ids=None, samples=50)`.

    The images have the shape and the type of the run's own, of any number; one without
    a batch axis is refused. Sample t of an image is a function of the run's seed, of t
    and of the image's id, by default its row: the same in any batch. Each number of
    samples is compiled once, for batches up to a power of two.

    Args:
        workdir: the directory of the run.
        rule: the inference rule, of which `mc`, `shared_mc` and `gaussian` sample.
        member: the number of the member, for a population.
        data_dir: the directory of the data now; if empty, the recorded one.
        cache_dir: the directory of decoded data; if empty, the user's cache.
        weights: `last`, or `average` for the moving average of a run with `--ema`.

    Raises:
        ValueError: there is no run, member or average, or the rule does not fit its
            plan; from the function, images of another shape or type than the run's.
    """
    run = load_member(workdir, member, data_dir, cache_dir, weights)
    check_inference_rule(rule, run.experiment.rows)
    use_compilation_cache(run.experiment.config.cache_dir)

    @functools.cache
    def prepared(samples: int, most: int) -> Predict:
        return prepare_inference(run, rule, samples, most)

    def predict(
        images: StoredImages,
        ids: Int[np.ndarray, " n"] | None = None,
        samples: int = SAMPLES,
    ) -> Prediction:
        check_images(run, images)
        if ids is None:
            ids = np.arange(len(images))
        most = min(CHUNK, 1 << (len(images) - 1).bit_length())
        part = images_alone(images, ids.astype(np.int32))
        return prediction_of(predict_part(run, prepared(samples, most), part))

    return predict


def load_member(
    workdir: str,
    member: int,
    data_dir: str = "",
    cache_dir: str = "",
    weights: str = "last",
) -> Run:
    """Return a run, or the member of a population of that number.

    Raises:
        ValueError: there is no run, no such member, or no average.
    """
    runs = load_runs(workdir, data_dir, cache_dir, weights)
    if not 0 <= member < len(runs):
        raise ValueError(
            f"member {member} of {workdir}: expected a number from 0 to "
            f"{len(runs) - 1}."
        )
    return runs[member]


def check_images(run: Run, images: np.ndarray) -> None:
    """Raise ValueError for images of another shape or type than the run's, or none."""
    expected = image_shape(run)
    if images.shape[1:] != expected or not len(images):
        raise ValueError(
            f"images of shape {images.shape}; expected (n, "
            f"{', '.join(map(str, expected))}) with n of at least 1."
        )
    check_pixels(run, "the array of images", images.dtype)


def prediction_of(samples: Samples) -> Prediction:
    """Return the probabilities and uncertainties of samples."""
    predicted = measures.averaged(samples)
    return Prediction(
        np.exp(predicted),
        measures.entropy(predicted),
        measures.mutual_information(samples),
        samples,
    )
