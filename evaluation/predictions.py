"""Predictions of a finished run, from its newest state on chosen examples."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, Num

from dropout import named_key
from evaluation.image_files import image_names, read_images
from evaluation.inference import (
    CHUNK,
    Predict,
    check_inference_rule,
    compile_predict,
)
from evaluation.measures import Labels, Samples
from evaluation.streamed_images import Images, StoredImages, images_and_labels
from training.averages import at_average
from training.data import sources
from training.data.reading import evaluation_loader, fetch_all
from training.experiment import Experiment, of_run
from training.restore import restore
from training.runtime.devices import make_mesh, replicated
from training.state import State

WEIGHTS = ("last", "average")


class Run(NamedTuple):
    """A trained network: the experiment of its run, and its newest state.

    `weights`, one of `WEIGHTS`, says whether the state has the parameters after the
    last step or their moving average.
    """

    experiment: Experiment
    state: State
    weights: str = "last"


class Part(NamedTuple):
    """Examples to predict, which may come from files.

    Attributes:
        name: the name of their split, from which their masks are drawn.
        labels: their classes, -1 where the class is not known.
        ids: their rows in the split.
        files: the names of their files; empty if they come from none.
    """

    name: str
    images: Images
    labels: Labels
    ids: Int[np.ndarray, " n"]
    files: tuple[str, ...] = ()

    def first(self, most: int) -> "Part":
        """Return the part with its first `most` examples."""
        return self._replace(
            images=self.images[:most],
            labels=self.labels[:most],
            ids=self.ids[:most],
            files=self.files[:most],
        )


class Predictions(NamedTuple):
    """Labelled images, and the predictions of each inference rule for them."""

    images: Images
    labels: Labels
    by_inference: dict[str, Samples]


def load_runs(
    workdir: str, data_dir: str = "", cache_dir: str = "", weights: str = "last"
) -> list[Run]:
    """Return the newest state of a run, or of every member of a population.

    Args:
        workdir: the directory of the run.
        data_dir: the directory of the data now; if empty, the recorded one.
        cache_dir: the directory of decoded data; if empty, the user's cache.
        weights: which of `WEIGHTS` the state gets.

    Raises:
        ValueError: there is no run, checkpoint, data or average, or the run is on text.
    """
    experiment, state = restore(workdir, data_dir, cache_dir)
    if np.ndim(experiment.data.test.fetch(np.zeros(1, np.int32))[1]) > 1:
        raise ValueError(f"{workdir}: a run on text; expected one on images.")
    state = with_weights(workdir, state, weights)
    if not experiment.members:
        return [Run(experiment, state, weights)]
    mesh = make_mesh("data:1")
    return [
        Run(
            member._replace(mesh=mesh),
            jax.device_put(of_run(experiment, state, number), replicated(mesh)),
            weights,
        )
        for number, member in enumerate(experiment.members)
    ]


def with_weights(workdir: str, state: State, weights: str) -> State:
    """Return the state of a run with its last parameters, or with their average.

    Raises:
        ValueError: `weights` is none of `WEIGHTS`, or the run has no average.
    """
    allowed = WEIGHTS if state.average else WEIGHTS[:1]
    if weights not in allowed:
        why = "" if state.average else f"; {workdir} was trained without --ema"
        raise ValueError(f"--weights={weights}: expected {' or '.join(allowed)}{why}.")
    return at_average(state) if weights == "average" else state


def held_out(run: Run, split: str, most: int) -> Part:
    """Return the first `most` examples (0: all) of the split `test` or `validation`."""
    experiment = run.experiment
    source = experiment.data.test
    ids = np.arange(source.size, dtype=np.int32)
    if split == "validation":
        source, ids = experiment.data.train, experiment.validation_ids
    ids = ids[: most or None]
    return Part(split, *images_and_labels(source, ids, experiment.config), ids)


def check_split(run: Run, split: str) -> None:
    """Raise ValueError for a run that holds out no example for validation."""
    if split == "validation" and not len(run.experiment.validation_ids):
        raise ValueError(
            "the run has no validation data; expected one that was trained with "
            "--validation_examples."
        )


def out_of_distribution(run: Run, dataset: str, most: int) -> Part:
    """Return test examples of another data set in the shape of the run's images.

    Raises:
        ValueError: its pixels are of another type than the run's.
    """
    config = run.experiment.config
    test = sources.load(dataset, config.data_dir, config.cache_dir).test
    ids = np.arange(min(test.size, most or test.size), dtype=np.int32)
    images, labels = fetch_all(test, ids, evaluation_loader(config))
    check_pixels(run, dataset, images.dtype)
    images = resized(images, image_shape(run))
    return Part("out of distribution", images, labels, ids)


def in_folder(run: Run, folder: str, most: int) -> Part:
    """Return the first `most` (0: all) images of a folder, without labels.

    Raises:
        ValueError: it has no image, one that cannot be read, or the run's images are
            not of 8 bits.
    """
    check_pixels(run, folder, np.dtype(np.uint8))
    names = image_names(folder, most)
    images = read_images(folder, names, image_shape(run))
    return images_alone(images, np.arange(len(names), dtype=np.int32), tuple(names))


def images_alone(
    images: StoredImages, ids: Int[np.ndarray, " n"], files: tuple[str, ...] = ()
) -> Part:
    """Return images of no split and without labels as a part."""
    return Part("images", images, np.full(len(images), -1, np.int32), ids, files)


def image_shape(run: Run) -> tuple[int, ...]:
    """Return height, width and channels of a run's images."""
    return run.experiment.data.test.image_shape


def pixel_type(run: Run) -> np.dtype:
    """Return the type of a run's pixels."""
    return run.experiment.data.test.fetch(np.zeros(1, np.int32))[0].dtype


def check_pixels(run: Run, name: str, found: np.dtype) -> None:
    """Raise ValueError for pixels of another type than the run's."""
    if found != pixel_type(run):
        raise ValueError(
            f"{name} is {found}, and the run's images are {pixel_type(run)}; expected "
            "the same."
        )


def prepare_inference(
    run: Run, inference: str, samples: int, most: int = CHUNK
) -> Predict:
    """Compile an inference rule after a check that it fits the run."""
    check_inference_rule(inference, run.experiment.rows)
    return compile_predict(run.experiment, run.state, inference, samples, most)


def predict_part(run: Run, predict: Predict, part: Part) -> Samples:
    """Return the log-probabilities of every sample.

    The masks are a function of the part's name and of the examples' ids.
    """
    return predict(run.state, mask_key_of(run, part), part.images, part.ids)


def mask_key_of(run: Run, part: Part) -> Key[Array, ""]:
    """Return the key of a part's masks."""
    return named_key(run.experiment.keys["dropout"], part.name)


def resized(
    images: StoredImages, shape: tuple[int, ...]
) -> Num[np.ndarray, "n rows columns colours"]:
    """Return images in another height, width and number of channels."""
    values = images.astype(np.float32)
    if values.shape[-1] != shape[-1]:
        values = np.repeat(values.mean(-1, keepdims=True), shape[-1], -1)
    if values.shape[1:3] != shape[:2]:
        values = np.asarray(jax.image.resize(values, (len(values), *shape), "linear"))
    return np.round(values).astype(np.uint8) if images.dtype == np.uint8 else values
