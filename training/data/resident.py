"""Data that fit in memory: they lie on the devices, where a step gathers its batch.

A batch then costs the host no call of its own. It is the same as `make_batch` gives.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Int32, Key, Num

from training.data.augmentation import augmentation_inputs
from training.data.order import epoch_order
from training.data.splits import ArraySplit
from training.experiment import Experiment
from training.runtime.devices import over_member_rows, over_rows, put, replicated
from training.state import Batch


class Resident(NamedTuple):
    """What batches are gathered from, the same on every device.

    Attributes:
        images: of the train split.
        labels: likewise.
        key: of the order and the augmentation.
        train_ids: the examples that are trained on.
    """

    images: Num[Array, "n h w c"]
    labels: Int32[Array, "n *positions"]
    key: Key[Array, "*members"]
    train_ids: Int32[Array, "*members n"]


Order = Int32[Array, "steps *members batch"]


def is_resident(experiment: Experiment) -> bool:
    """Return whether the training examples are kept in memory."""
    return isinstance(experiment.data.train, ArraySplit)


def resident(experiment: Experiment) -> Resident:
    """Return the training examples on every device of the mesh."""
    split = cast(ArraySplit, experiment.data.train)
    arrays = split.images, split.labels, experiment.keys["data"], experiment.train_ids
    return Resident(*put(arrays, replicated(experiment.mesh)))


def ordering(experiment: Experiment) -> Callable[[Resident, int], Order]:
    """Return a function of the data and an epoch: the examples of each of its steps."""
    in_order = partial(epoch_order, batch_size=experiment.config.batch_size)
    if experiment.members:
        in_order = jax.vmap(in_order, (0, None, 0), out_axes=1)

    def order(data: Resident, epoch: Int[Array, ""] | int) -> Order:
        return in_order(data.key, epoch, data.train_ids)

    return jax.jit(order, out_shardings=replicated(experiment.mesh))


def gather_batch(
    experiment: Experiment,
    data: Resident,
    ids: Int32[Array, "*members b"],
    epoch: Int[Array, ""],
) -> Batch:
    """Return a batch in micro-batches, within a compiled step; see `make_batch`."""
    parts = ids.reshape(*ids.shape[:-1], experiment.config.microbatches, -1)
    padding = -parts.shape[-1] % experiment.mesh.shape["data"]
    spread = over_member_rows if experiment.members else over_rows
    place = partial(jax.lax.with_sharding_constraint, shardings=spread(experiment.mesh))
    examples = place(_padded(parts, padding))
    weights = _padded(jnp.ones(parts.shape, jnp.float32), padding)
    fetch = ArraySplit(data.images, data.labels).fetch
    calls = experiment.objective.augmentations
    augmentation = augmentation_inputs(
        calls, data.key, epoch, examples, data.train_ids, fetch
    )
    # Written to memory before it is used, the batch leads to the same step as any other
    # of these values: fused with the gathering, a step would be rounded otherwise.
    return jax.lax.optimization_barrier(
        Batch(*place((*fetch(examples), examples, weights, augmentation)))
    )


def _padded(parts: Array, padding: int) -> Array:
    """Return the array with zeros added at the end of the last axis."""
    return jnp.pad(parts, (*((0, 0),) * (parts.ndim - 1), (0, padding)))
