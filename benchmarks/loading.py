"""How fast images are read and decoded: Grain's threads beside PIL in one thread."""

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, UInt32

from benchmarks.request import Request, timed
from benchmarks.tables import Results
from benchmarks.timing import Calls
from training.data.crops import decode, resized_crop
from training.data.prepared import open_prepared
from training.data.reading import Loader, Requests, read_ahead
from training.data.splits import RecordSplit

SIZE = 224
BATCH = 128


def measure_loader(request: Request) -> Iterator[tuple[str, Results]]:
    """Measure batches of a prepared data set, cropped at random as in training."""
    splits = ("train", "train")
    crop = resized_crop(size=SIZE)
    split = open_prepared(request.dataset, request.data_dir, splits, crop).train
    title = f"{BATCH} images of {request.dataset}, decoded and cropped to {SIZE}x{SIZE}"
    contestants = {"PIL, one thread": one_thread(split)}
    for threads in sorted({1, os.cpu_count() or 1}):
        contestants[f"Grain, {threads} thread(s)"] = with_grain(split, threads)
    yield title, timed(request, title, contestants)


def one_thread(split: RecordSplit) -> Calls:
    """Return a function that reads batches with PIL alone, one image after another."""

    def calls(batches: int) -> None:
        for ids, words in zip(*asked(split, batches)):
            found = split.records.__getitems__(ids.tolist())
            channels = split.image_shape[-1]
            np.stack(
                [
                    decode(each["image"], channels, split.crop, draw)
                    for each, draw in zip(found, words)
                ]
            )

    return calls


def with_grain(split: RecordSplit, threads: int) -> Calls:
    """Return a function that starts the threads and reads batches as a run does."""

    def calls(batches: int) -> None:
        requests = Requests(split, *asked(split, batches))
        for _ in read_ahead(requests, Loader(threads, 0)):
            pass

    return calls


def asked(
    split: RecordSplit, batches: int
) -> tuple[
    Int32[np.ndarray, "batches rows"],
    UInt32[np.ndarray, "batches rows 2"],
]:
    """Return random examples and crops, the same for every contestant."""
    random = np.random.default_rng(0)
    ids = random.integers(0, split.size, (batches, BATCH), np.int32)
    return ids, random.integers(0, 2**32, (batches, BATCH, 2), np.uint32)
