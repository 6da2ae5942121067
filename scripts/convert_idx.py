"""Writes the four idx files of MNIST or Fashion-MNIST as one .npz file.

    python scripts/convert_idx.py DIRECTORY --out=data/fashion_mnist.npz
    python train.py --dataset=data/fashion_mnist.npz

Debian and Ubuntu have Fashion-MNIST as the package `dataset-fashion-mnist` (`dpkg -L
dataset-fashion-mnist` shows its directory). Files may be compressed by gzip.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from training.data.idx import EXPECTED, read_idx_directory
from training.record.files import make_directory, replacing
from training.runtime.main import run_main

OUT = flags.DEFINE_string("out", "data/fashion_mnist.npz", "file to write")


def main(arguments: list[str]) -> None:
    """Read the files of a directory and write the arrays."""
    if len(arguments) != 1:
        raise ValueError(f"{len(arguments)} arguments: {EXPECTED} in one directory.")
    out = Path(OUT.value)
    if out.suffix != ".npz":
        raise ValueError(f"--out={out}: expected a name that ends in .npz.")
    arrays: dict[str, Any] = read_idx_directory(Path(arguments[0]))
    make_directory("out", str(out.parent))
    # Not compressed: a large file is then read in parts.
    with replacing(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    print(f"{out}: {', '.join(f'{n} {a.shape}' for n, a in arrays.items())}")


if __name__ == "__main__":
    run_main(main)
