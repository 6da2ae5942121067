"""The batches of a run on a streamed split, each a function of the seed and the step.

The keys of many examples are computed at once and go to the threads that read as plain
words, so that these, and other processes, need no JAX.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32, Key, UInt32

from dropout.keys import named_key
from training.data.augmentation import (
    augmentation_inputs,
    keys_of_examples,
    mixes,
    partners_of,
)
from training.data.micro_batches import micro_batches
from training.data.reading import Fetched, Loader, Requests, read_ahead
from training.data.splits import RecordSplit
from training.experiment import Experiment
from training.runtime.devices import over_member_rows, over_rows, putting
from training.state import Batch

# Processes take seconds to start, so they read this many examples, or an epoch of more.
EXAMPLES_AT_ONCE = 2**18

EpochIds = tuple[int, Int32[np.ndarray, "_ *members batch"]]


class Steps(NamedTuple):
    """Steps whose examples are being read.

    Attributes:
        epochs: the number of each step's epoch.
        read: images and labels of each step: those of `examples`, then their partners.
    """

    epochs: list[int]
    examples: Int32[np.ndarray, "steps *members k m"]
    weights: Float32[np.ndarray, "steps *members k m"]
    read: Iterator[Fetched]


def streamed_batches(
    experiment: Experiment, epochs: Iterator[EpochIds], loader: Loader
) -> Iterator[Batch]:
    """Return the batches of epochs, given by their numbers and the ids of their steps.

    While the last batch of some epochs is in use, the next ones are read already.
    """
    groups = (_begun(experiment, group, loader) for group in _grouped(epochs))
    current = next(groups, None)
    while current is not None:
        steps, following = len(current.epochs), None
        for step in range(steps):
            batch = _batch(experiment, current, step)
            if step == steps - 1:
                following = next(groups, None)
            yield batch
        current = following


def _grouped(epochs: Iterator[EpochIds]) -> Iterator[list[EpochIds]]:
    """Yield as many epochs at once as have `EXAMPLES_AT_ONCE`."""
    group = []
    for epoch in epochs:
        group.append(epoch)
        if sum(ids.size for _, ids in group) >= EXAMPLES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _begun(experiment: Experiment, group: list[EpochIds], loader: Loader) -> Steps:
    numbers = [number for number, ids in group for _ in ids]
    rows = [micro_batches(experiment, ids) for _, ids in group]
    asked = [
        _asked(experiment, number, examples)
        for (number, _), (examples, _) in zip(group, rows)
    ]
    examples, weights = map(np.concatenate, zip(*rows))
    ids, words = map(np.concatenate, zip(*asked))
    split = experiment.data.train
    assert isinstance(split, RecordSplit)
    drawn = split.crop is not None or split.distortions
    requests = Requests(split, ids, words if drawn else None)
    return Steps(numbers, examples, weights, read_ahead(requests, loader))


def _batch(experiment: Experiment, steps: Steps, step: int) -> Batch:
    examples = steps.examples[step]
    images, labels = next(steps.read)
    count = examples.size

    def shaped(part: slice) -> Fetched:
        shape = (*examples.shape, *images.shape[1:])
        return images[part].reshape(shape), labels[part].reshape(examples.shape)

    augmentation = augmentation_inputs(
        experiment.objective.augmentations, experiment.keys["data"], steps.epochs[step],
        examples, experiment.train_ids, lambda partners: shaped(slice(count, None)),
    )  # fmt: skip
    own = shaped(slice(count))
    arrays = (*own, examples, steps.weights[step], augmentation)
    spread = over_member_rows if experiment.members else over_rows
    return Batch(*putting(spread(experiment.mesh))(arrays))


def _asked(
    experiment: Experiment,
    epoch: int,
    examples: Int32[np.ndarray, "steps *members k m"],
) -> tuple[Int32[np.ndarray, "steps rows"], UInt32[np.ndarray, "steps rows 2"]]:
    """Return ids and words of each step's examples, then of those they mix with."""
    each = list(np.moveaxis(examples, 1, 0)) if experiment.members else [examples]
    found = [_of_run(run, epoch, own) for run, own in zip(experiment.runs, each)]
    steps = len(examples)
    parts = [
        (ids.reshape(steps, -1), words.reshape(steps, -1, 2))
        for kind in zip(*found)
        for ids, words in kind
    ]
    ids, words = (np.concatenate(part, axis=1) for part in zip(*parts))
    return ids, words


def _of_run(
    run: Experiment, epoch: int, examples: Int32[np.ndarray, "steps k m"]
) -> list[tuple[Int32[np.ndarray, "steps k m"], UInt32[np.ndarray, "steps k m 2"]]]:
    """Return ids and words of one run's examples, and of their partners if it mixes."""
    keys = keys_of_examples(run.keys["data"], epoch, examples)
    found = [(examples, _words(keys))]
    if mixes(run.objective.augmentations):
        partners = np.asarray(partners_of(keys, run.train_ids))
        found.append((partners, _words(named_key(keys, "partner"))))
    return found


def _words(keys: Key[Array, "*rows"]) -> UInt32[np.ndarray, "*rows 2"]:
    """Return two words of each example's key, which draw its crop and distortions."""
    # The name is older than the distortions; another name would change all crops.
    return np.asarray(jax.random.key_data(named_key(keys, "resized_crop")))
