"""Times whole runs: five epochs of MNIST in train.py and in the article's Keras script.

    python scripts/bench_end_to_end.py --data_dir=DIR

From the start of the process to its last line: import, data, compilation, training and
evaluation. Ours comes with an empty cache (cold) and with the cache that this leaves
(warm), in turn with Keras; batches of 32, Keras' default, everywhere.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from training.data.sources import load

DATA_DIR = flags.DEFINE_string("data_dir", None, "as in train.py", required=True)
ROUNDS = flags.DEFINE_integer("rounds", 1, "runs of each", lower_bound=1)

ROOT = Path(__file__).parent.parent


def main(argv: list[str]) -> None:
    """Runs all in turn and prints the medians and their ratios to Keras."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": [], "Keras": []}
    for number in range(ROUNDS.value):
        with tempfile.TemporaryDirectory() as scratch:
            for name, command in commands(Path(scratch)).items():
                seconds[name].append(wall_time(command))
                print(f"{number} {name}: {seconds[name][-1]:.1f} s", flush=True)
    peer = statistics.median(seconds["Keras"])
    for name in ("cold", "warm"):
        own = statistics.median(seconds[name])
        print(f"{name}: {own:.1f} s, {own / peer:.2f} of Keras' {peer:.1f} s")


def commands(scratch: Path) -> dict[str, list[str]]:
    """The three runs, in their order."""
    ours = [
        sys.executable, "train.py", "--flagfile=configs/cnn_mnist.flags", "--epochs=5",
        "--batch_size=32", f"--data_dir={DATA_DIR.value}",
        f"--cache_dir={scratch / 'cache'}",
    ]  # fmt: skip
    arrays = scratch / "mnist.npz"
    write_arrays(arrays)
    return {
        "cold": [*ours, f"--workdir={scratch / 'cold'}"],
        "warm": [*ours, f"--workdir={scratch / 'warm'}"],
        "Keras": [sys.executable, "scripts/keras_article.py", str(arrays)],
    }


def write_arrays(path: Path) -> None:
    """MNIST as Keras' own loader has it on disk."""
    found = load("mnist", DATA_DIR.value, str(path.parent / "decoded"))
    splits = {"train": found.train, "test": found.test}
    arrays = {}
    for name, split in splits.items():
        images, labels = split.fetch(np.arange(split.size, dtype=np.int32))
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    np.savez(path, **arrays)


def wall_time(command: list[str]) -> float:
    """Seconds from the start of a process to its end."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    app.run(main)
