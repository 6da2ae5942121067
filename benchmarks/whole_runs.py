"""Whole runs, timed from the start of the process to its last line.

Import, data, compilation, training and evaluation all count. `train.py` runs with an
empty cache (cold), and again with the cache that this run leaves (warm), alternating
with Keras.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from training.data.sources import load

ROOT = Path(__file__).parent.parent
OURS = ("cold", "warm")


def measure_runs(data_dir: str, rounds: int) -> Iterator[str]:
    """Yield a line for each run of each round, then medians and ratios to Keras.

    Raises:
        ValueError: Keras is not installed, the data set is missing, or a run fails.
    """
    if not find_spec("tensorflow"):
        raise ValueError(
            "This compares runs with Keras, which is not installed: first run "
            "pip install -e '.[bench]'."
        )
    seconds: dict[str, list[float]] = {name: [] for name in (*OURS, "Keras")}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for name, command in commands(Path(scratch), data_dir).items():
                seconds[name].append(wall_time(command))
                yield f"{number} {name}: {seconds[name][-1]:.1f} s"
    yield from medians(seconds)


def medians(seconds: dict[str, list[float]]) -> Iterator[str]:
    """Yield a line for each of our runs, with its median and the ratio to Keras."""
    peer = statistics.median(seconds["Keras"])
    for name in OURS:
        own = statistics.median(seconds[name])
        yield f"{name}: {own:.1f} s, {own / peer:.2f} of Keras' {peer:.1f} s"


def commands(scratch: Path, data_dir: str) -> dict[str, list[str]]:
    """Write the arrays for Keras, and return the three commands in their order."""
    ours = [
        sys.executable, "train.py", "--flagfile=configs/cnn_mnist.flags", "--epochs=5",
        "--batch_size=32", f"--data_dir={data_dir}", f"--cache_dir={scratch / 'cache'}",
    ]  # fmt: skip
    arrays = scratch / "mnist.npz"
    write_arrays(arrays, data_dir)
    return {
        "cold": [*ours, f"--workdir={scratch / 'cold'}"],
        "warm": [*ours, f"--workdir={scratch / 'warm'}"],
        "Keras": [sys.executable, "benchmarks/keras_article.py", str(arrays)],
    }


def write_arrays(path: Path, data_dir: str) -> None:
    """Write MNIST in the format of the file that Keras' own loader reads."""
    found = load("mnist", data_dir, str(path.parent / "decoded"))
    arrays = {}
    for name, split in {"train": found.train, "test": found.test}.items():
        images, labels = split.fetch(np.arange(split.size, dtype=np.int32))
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    np.savez(path, **arrays)


def wall_time(command: list[str]) -> float:
    """Return the seconds from the start of a process to its end.

    Raises:
        ValueError: the process fails; the message ends with the last line it printed.
    """
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        raise ValueError(f"{command[1]} ended with status {done.returncode}: {last}")
    return seconds
