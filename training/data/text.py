"""A text as a data set: windows of characters, each labelled with the one after it.

A window is an image whose rows are one-hot characters, so that any network that reads
rows reads text. It has one label per row.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int32

from training.data.splits import ArraySplit, DataSet

WINDOW = 64
TEST_SHARE = 0.1
# Lewis Carroll, "Alice's Adventures in Wonderland", 1865, chapters I and II.
ALICE = Path(__file__).with_name("alice.txt")


def read_text(name: str, path: str | Path) -> DataSet:
    """Return the windows of a UTF-8 text: its last tenth to test on, the rest to train.

    A blank line is one newline and any other white space one space. Characters are
    numbered by code point. A character that is 1 in an image is not standardised.

    Raises:
        ValueError: the file cannot be read, or is too short.
    """
    try:
        paragraphs = Path(path).read_text(encoding="utf-8").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read {str(path)!r}: {error}; expected UTF-8 text."
        ) from error
    text = "\n".join(" ".join(part.split()) for part in paragraphs if part.strip())
    # One window of each split needs WINDOW + 1 characters.
    if TEST_SHARE * len(text) <= WINDOW + 1:
        raise ValueError(
            f"{path} has {len(text)} characters; expected more than "
            f"{round((WINDOW + 1) / TEST_SHARE)}."
        )
    characters, tokens = np.unique(list(text), return_inverse=True)
    split = round((1 - TEST_SHARE) * len(tokens))
    train, test = (
        windows(part.astype(np.int32), len(characters))
        for part in (tokens[:split], tokens[split:])
    )
    plain = np.zeros(1, np.float32), np.ones(1, np.float32)
    return DataSet(name, len(characters), train, test, *plain)


def windows(tokens: Int32[np.ndarray, " length"], classes: int) -> ArraySplit:
    """Return windows that do not overlap; the last characters may be left out.

    Images (windows, WINDOW, classes, 1), one-hot with 255 for 1; labels (windows,
    WINDOW), the next character of each.
    """
    count = (len(tokens) - 1) // WINDOW
    shown, labels = (
        tokens[start : start + count * WINDOW].reshape(count, WINDOW)
        for start in (0, 1)
    )
    images = 255 * np.eye(classes, dtype=np.uint8)[shown]
    return ArraySplit(images[..., None], labels)
