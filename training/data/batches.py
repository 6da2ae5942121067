"""The batches of a run, each a function of the seed and the step."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Int32

from training.data.augmentation import augmentation_inputs
from training.data.micro_batches import micro_batches
from training.data.order import epoch_order
from training.data.reading import evaluation_loader, loader_of
from training.data.splits import RecordSplit
from training.data.streaming import streamed_batches
from training.experiment import Experiment
from training.runtime.devices import over_member_rows, over_rows, putting
from training.state import Batch

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Return the same items, endless, each made while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items)
        while True:
            item = following.result()
            following = thread.submit(next, items)
            yield item


def batches_from(experiment: Experiment, first: int) -> Iterator[Batch]:
    """Return the batches from step `first` on, of a streamed split to the last step."""
    if isinstance(experiment.data.train, RecordSplit):
        epochs, loader = epochs_from(experiment, first), loader_of(experiment.config)
        return streamed_batches(experiment, epochs, loader)
    return (make_batch(experiment, *each) for each in batch_ids(experiment, first))


def batch_ids(
    experiment: Experiment, first: int
) -> Iterator[tuple[Int32[np.ndarray, "*members batch"], int]]:
    """Return the example ids and the epoch of each batch from step `first` on."""
    timeline = experiment.timeline
    for epoch in itertools.count(first // timeline.steps_per_epoch):
        done = max(first - epoch * timeline.steps_per_epoch, 0)
        yield from ((ids, epoch) for ids in epoch_ids(experiment, epoch)[done:])


def epochs_from(
    experiment: Experiment, first: int
) -> Iterator[tuple[int, Int32[np.ndarray, "steps *members batch"]]]:
    """Return each epoch from step `first` to the last, with the ids of its steps."""
    length, total = experiment.timeline.steps_per_epoch, experiment.timeline.total
    for epoch in range(first // length, -(-total // length)):
        start = epoch * length
        ids = epoch_ids(experiment, epoch)[max(first - start, 0) : total - start]
        yield epoch, ids


def epoch_ids(
    experiment: Experiment, epoch: int
) -> Int32[np.ndarray, "steps *members batch"]:
    """Return the examples of each step of an epoch."""
    size = experiment.config.batch_size
    orders = [
        np.asarray(epoch_order(run.keys["data"], epoch, run.train_ids, size))
        for run in experiment.runs
    ]
    return np.stack(orders, axis=1) if experiment.members else orders[0]


def make_batch(
    experiment: Experiment, ids: Int32[np.ndarray, "*members b"], epoch: int
) -> Batch:
    """Return a batch in micro-batches, each padded to a multiple of the devices."""
    if isinstance(experiment.data.train, RecordSplit):
        loader = evaluation_loader(experiment.config)
        return next(streamed_batches(experiment, iter([(epoch, ids[None])]), loader))
    examples, weights = micro_batches(experiment, ids)
    fetch = experiment.data.train.fetch
    calls, key = experiment.objective.augmentations, experiment.keys["data"]
    augmentation = augmentation_inputs(
        calls, key, epoch, examples, experiment.train_ids, fetch
    )
    arrays = (*fetch(examples), examples, weights, augmentation)
    spread = over_member_rows if experiment.members else over_rows
    return Batch(*putting(spread(experiment.mesh))(arrays))
