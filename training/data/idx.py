"""The idx files in which MNIST and Fashion-MNIST are published, as arrays."""

import gzip
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from training.data.npz import ARRAYS

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNSIGNED_BYTES = 8  # The code of the one type that these files use.
EXPECTED = "expected the four files of MNIST, each perhaps with .gz"


def read_idx_directory(directory: Path) -> dict[str, np.ndarray]:
    """Return the four `ARRAYS` of an .npz file from the four idx files of a directory.

    Images get an axis of one channel.

    Raises:
        ValueError: a file is missing, or is no idx file of unsigned bytes.
    """
    arrays = [read_idx(_find(directory, stem)) for stem in STEMS]
    return {
        name: array[..., None] if name.endswith("images") else array.astype(np.int32)
        for name, array in zip(ARRAYS, arrays)
    }


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Return the array in an idx file, which may be compressed by gzip.

    The format: two zero bytes, the code of the type, the number of axes, the length of
    each axis as a big-endian int32, and the elements, the last axis first to vary.

    Raises:
        ValueError: the file cannot be read, or holds something else.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
        zeros, code, axes = content[:2], content[2], content[3]
        shape = np.frombuffer(content, ">i4", axes, offset=4)
        if zeros != b"\0\0" or code != UNSIGNED_BYTES:
            raise ValueError("its first bytes are not 0, 0, 8")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise ValueError(
            f"cannot read {str(path)!r}: {error}; expected an idx file of unsigned "
            "bytes."
        ) from None


def _find(directory: Path, stem: str) -> Path:
    for path in (directory / stem, directory / f"{stem}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{directory} has no {stem}: {EXPECTED}.")
