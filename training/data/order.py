"""Which examples a run trains on, and the order in which they come."""

import jax
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, Key

from dropout.keys import fold, named_key

Ids = Int32[Array, " n"] | Int32[np.ndarray, " n"]


def subsets(
    key: Key[Array, ""],
    train_size: int,
    train_examples: int | None,
    validation_examples: int,
) -> tuple[Int32[Array, " train"], Int32[Array, " validation"]]:
    """Return the ids to train on and to validate on, of `train_size` train examples.

    The key gives one permutation: validation gets its last `validation_examples`,
    training its first `train_examples` (None or 0: all the rest). So a smaller training
    set is part of a larger one, and neither contains validation examples.

    Raises:
        ValueError: fewer than 0 of either, more than there are, or none to train on.
    """
    available = train_size - validation_examples
    train = available if train_examples in (None, 0) else train_examples
    if validation_examples < 0 or not 1 <= train <= available:
        raise ValueError(
            f"train_examples={train_examples} and validation_examples="
            f"{validation_examples}: expected at least 0 of each and no more than "
            f"{train_size} together, one or more of them to train on."
        )
    order = jax.random.permutation(named_key(key, "subset"), train_size)
    return order[:train], order[available:]


def epoch_order(
    key: Key[Array, ""],
    epoch: Int[Array, ""] | int,
    ids: Ids,
    batch_size: int,
) -> Int32[Array, "steps batch"]:
    """Return the batches of an epoch: a permutation of `ids` by the key and the epoch.

    There are floor(N / batch_size) full batches; the examples left over differ from
    epoch to epoch.

    Raises:
        ValueError: `batch_size` is not between 1 and the number of `ids`.
    """
    if not 1 <= batch_size <= len(ids):
        raise ValueError(
            f"batch_size {batch_size}: expected 1 to {len(ids)}, the number of "
            "training examples."
        )
    order = jax.random.permutation(fold(named_key(key, "order"), epoch), ids)
    steps = len(ids) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def evaluation_batches(
    ids: Ids, batch_size: int
) -> tuple[Int32[np.ndarray, "steps batch"], Float32[np.ndarray, "steps batch"]]:
    """Return `ids` in order with weight 1; the last batch is padded with weight 0."""
    steps = -(-len(ids) // batch_size)
    padded = np.zeros((steps, batch_size), np.int32)
    weights = np.zeros((steps, batch_size), np.float32)
    padded.flat[: len(ids)] = np.asarray(ids)
    weights.flat[: len(ids)] = 1
    return padded, weights
