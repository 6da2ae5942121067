"""The statistics of a large data set, computed once and kept by its digest."""

import hashlib
import json
from pathlib import Path

import numpy as np

from training.data.splits import ArraySplit, PerChannel, Split
from training.data.standardisation import statistics
from training.record.files import write_atomically

# What is smaller takes less time than the reading of a file is worth.
SMALLEST_KEPT_BYTES = 2**26


def kept_statistics(split: Split, cache_dir: Path) -> tuple[PerChannel, PerChannel]:
    """Return the mean and standard deviation of each channel, as `statistics` does.

    Of a large split they are read from `cache_dir`, where the first run has put them.
    """
    if not isinstance(split, ArraySplit) or split.images.nbytes < SMALLEST_KEPT_BYTES:
        return statistics(split)
    path = cache_dir / f"statistics-{_digest(split)}.json"
    try:
        mean, std = json.loads(path.read_text())
        return np.array(mean, np.float32), np.array(std, np.float32)
    except (OSError, ValueError):  # Not there yet, or damaged.
        found = statistics(split)
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps([each.tolist() for each in found]) + "\n")
        return found


def _digest(split: ArraySplit) -> str:
    images = np.ascontiguousarray(split.images)
    found = hashlib.sha256(f"{images.shape}{images.dtype}".encode())
    found.update(images.data)
    return found.hexdigest()
