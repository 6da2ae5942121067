"""The batches of a run on a streamed split, each a function of the seed and the step.

The keys of an epoch's examples are computed at once and go to the threads that read as
plain words, so that these, and other processes, need no JAX.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32, Key, UInt32

from dropout.keys import named_key
from training.data.augmentation import (
    MIXING,
    augmentation_inputs,
    keys_of_examples,
    partners_of,
)
from training.data.micro_batches import micro_batches
from training.data.reading import Fetched, Loader, Requests, read_ahead
from training.data.splits import RecordSplit
from training.experiment import Experiment
from training.runtime.devices import over_member_rows, over_rows, putting
from training.state import Batch


class Epoch(NamedTuple):
    """The steps of an epoch, or some of them, whose examples are being read.

    Attributes:
        read: images and labels of each step: those of `examples`, then their partners.
    """

    number: int
    examples: Int32[np.ndarray, "steps *members k m"]
    weights: Float32[np.ndarray, "steps *members k m"]
    read: Iterator[Fetched]


def streamed_batches(
    experiment: Experiment,
    epochs: Iterator[tuple[int, Int32[np.ndarray, "steps *members batch"]]],
    loader: Loader,
) -> Iterator[Batch]:
    """Return the batches of epochs, given by their numbers and the ids of their steps.

    While the last batch of an epoch is in use, the next epoch is read already.
    """
    current = _begun(experiment, next(epochs), loader)
    while current is not None:
        steps, following = len(current.examples), None
        for step in range(steps):
            batch = _batch(experiment, current, step)
            if step == steps - 1:
                after = next(epochs, None)
                following = after and _begun(experiment, after, loader)
            yield batch
        current = following


def _begun(
    experiment: Experiment,
    epoch: tuple[int, Int32[np.ndarray, "steps *members batch"]],
    loader: Loader,
) -> Epoch:
    number, ids = epoch
    examples, weights = micro_batches(experiment, ids)
    read = read_ahead(_requests(experiment, number, examples), loader)
    return Epoch(number, examples, weights, read)


def _batch(experiment: Experiment, epoch: Epoch, step: int) -> Batch:
    examples = epoch.examples[step]
    images, labels = next(epoch.read)
    count = examples.size

    def shaped(part: slice) -> Fetched:
        shape = examples.shape
        return images[part].reshape(*shape, *images.shape[1:]), labels[part].reshape(
            shape
        )

    augmentation = augmentation_inputs(
        experiment.objective.augmentations, experiment.keys["data"], epoch.number,
        examples, experiment.train_ids, lambda partners: shaped(slice(count, None)),
    )  # fmt: skip
    own = shaped(slice(count))
    arrays = (*own, examples, epoch.weights[step], augmentation)
    spread = over_member_rows if experiment.members else over_rows
    return Batch(*putting(spread(experiment.mesh))(arrays))


def _requests(
    experiment: Experiment,
    epoch: int,
    examples: Int32[np.ndarray, "steps *members k m"],
) -> Requests:
    """Return what is read of each step: its examples, and those they are mixed with."""
    split = experiment.data.train
    assert isinstance(split, RecordSplit)
    each = [examples] if not experiment.members else list(np.moveaxis(examples, 1, 0))
    parts = [
        _of_run(run, epoch, its_own) for run, its_own in zip(experiment.runs, each)
    ]
    flat = [
        (ids.reshape(len(examples), -1), words.reshape(len(examples), -1, 2))
        for kind in zip(*parts)
        for ids, words in kind
    ]
    ids, words = (np.concatenate(each, axis=1) for each in zip(*flat))
    return Requests(split, ids, words if split.crop else None)


def _of_run(
    run: Experiment, epoch: int, examples: Int32[np.ndarray, "steps k m"]
) -> list[tuple[Int32[np.ndarray, "steps k m"], UInt32[np.ndarray, "steps k m 2"]]]:
    """Return ids and words of one run's examples, and of their partners if it mixes."""
    keys = keys_of_examples(run.keys["data"], epoch, examples)
    found = [(examples, _words(keys))]
    calls = run.objective.augmentations
    if calls and calls[-1].name in MIXING:
        partners = np.asarray(partners_of(keys, run.train_ids))
        found.append((partners, _words(named_key(keys, "partner"))))
    return found


def _words(keys: Key[Array, "*rows"]) -> UInt32[np.ndarray, "*rows 2"]:
    """Return two words of each example's key, from which its crop is drawn."""
    return np.asarray(jax.random.key_data(named_key(keys, "resized_crop")))
