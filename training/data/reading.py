"""Reads examples of streamed splits ahead, with Grain's threads or processes.

A request of a batch is cut into pieces of a few images, so that the first batch is made
by all threads together, and what waits to be used is bounded. Pieces come back in their
order: how many threads or processes there are changes nothing but the time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt32

from training.config import Config
from training.data.splits import RecordSplit, Split

PIECE = 32  # Images that one thread decodes before another one may be waited for.
PIECES_PER_THREAD = 2

Fetched = tuple[Any, Any]  # Images and labels.


class Loader(NamedTuple):
    """How many threads read in each process, and how many processes beside this one."""

    threads: int
    processes: int


@dataclass(frozen=True, eq=False)
class Requests:
    """The examples of a sequence of batches, with the words that draw on the host."""

    split: RecordSplit
    ids: Int32[np.ndarray, "batches rows"]
    words: UInt32[np.ndarray, "batches rows 2"] | None = None

    @property
    def pieces(self) -> int:
        """Return the number of pieces of a batch."""
        return -(-self.ids.shape[1] // PIECE)

    def __len__(self) -> int:
        """Return the number of pieces of all batches."""
        return len(self.ids) * self.pieces

    def __getitem__(self, index: int) -> Fetched:
        """Return images and labels of a piece, decoded now."""
        batch, piece = divmod(index, self.pieces)
        part = slice(piece * PIECE, (piece + 1) * PIECE)
        words = None if self.words is None else self.words[batch, part]
        return self.split.fetch(self.ids[batch, part], words)


def loader_of(config: Config) -> Loader:
    """Return the loader of training: by default a thread for each core."""
    cores = 1 if config.loader_processes else len(os.sched_getaffinity(0))
    return Loader(config.loader_threads or cores, config.loader_processes)


def evaluation_loader(config: Config) -> Loader:
    """Return the loader of tests: threads, for processes would start at every test."""
    threads, processes = loader_of(config)
    return Loader(threads * max(1, processes), 0)


def read_ahead(requests: Requests, loader: Loader) -> Iterator[Fetched]:
    """Start to read; return an iterator over images and labels of each batch.

    At most `PIECES_PER_THREAD` pieces per thread wait for their batch. The iterator
    ends the threads and processes when it is closed, which its deletion does too.

    Raises:
        ValueError: a record cannot be decoded.
    """
    # Takes a second to import, and nothing that fits in memory needs it.
    import grain

    waiting = PIECES_PER_THREAD * loader.threads
    read = grain.MapDataset.source(requests).to_iter_dataset(
        grain.ReadOptions(num_threads=loader.threads, prefetch_buffer_size=waiting)
    )
    if loader.processes:
        several = grain.MultiprocessingOptions(loader.processes, waiting)
        read = read.mp_prefetch(several)
    pieces = iter(read)
    pieces.start_prefetch()
    return _batches(pieces, requests)


def fetched(
    split: Split, batches: Int32[np.ndarray, "batches *rows"], loader: Loader
) -> Iterator[Fetched]:
    """Return images and labels of each batch of ids, as `split.fetch` gives them."""
    if not isinstance(split, RecordSplit):
        return map(split.fetch, batches)
    requests = Requests(split, batches.reshape(len(batches), -1))
    shape = batches.shape[1:]
    return (
        (images.reshape(*shape, *images.shape[1:]), labels.reshape(shape))
        for images, labels in read_ahead(requests, loader)
    )


def fetch_all(split: Split, ids: Int32[np.ndarray, " n"], loader: Loader) -> Fetched:
    """Return images and labels of all ids, as NumPy arrays."""
    if not isinstance(split, RecordSplit):
        images, labels = split.fetch(ids)
        return np.asarray(images), np.asarray(labels)
    (found,) = fetched(split, ids[None], loader)
    return found


def _batches(pieces: Any, requests: Requests) -> Iterator[Fetched]:
    try:
        for _ in range(len(requests.ids)):
            parts = [next(pieces) for _ in range(requests.pieces)]
            images, labels = map(np.concatenate, zip(*parts))
            yield images, labels
    finally:
        pieces.close()
