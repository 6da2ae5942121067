"""Data that fit in memory: they lie on the devices, where a step gathers its batch.

Devices that share a batch share the images, too, and each has all labels. A batch needs
no call of its own from the host, and is the same as that of `make_batch`.
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
from training.data.spread import gather_images, spread_images
from training.experiment import Experiment
from training.runtime.devices import over_member_rows, over_rows, put, replicated
from training.state import Batch


class Resident(NamedTuple):
    """What batches are gathered from, the same on every device except the images.

    Attributes:
        images: the images of the train split, spread by `spread_images`.
        labels: the labels of the train split.
        key: the key of the order and the augmentation.
        train_ids: the ids of the examples that are trained on.
    """

    images: Num[Array, "padded h w c"]
    labels: Int32[Array, "n *positions"]
    key: Key[Array, "*members"]
    train_ids: Int32[Array, "*members n"]


Order = Int32[Array, "steps *members batch"]


def is_resident(experiment: Experiment) -> bool:
    """Return whether the training examples are kept in memory."""
    return isinstance(experiment.data.train, ArraySplit)


def resident(experiment: Experiment) -> Resident:
    """Return the training examples on the devices of the mesh."""
    split, mesh = cast(ArraySplit, experiment.data.train), experiment.mesh
    arrays = split.labels, experiment.keys["data"], experiment.train_ids
    images = spread_images(mesh, split.images)
    return Resident(images, *put(arrays, replicated(mesh)))


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
    mesh = experiment.mesh
    parts = ids.reshape(*ids.shape[:-1], experiment.config.microbatches, -1)
    padding = -parts.shape[-1] % mesh.shape["data"]
    examples = _padded(parts, padding)
    weights = _padded(jnp.ones(parts.shape, jnp.float32), padding)

    def fetch(ids: Int32[Array, "*rows"]) -> tuple[Array, Array]:
        return gather_images(mesh, data.images, ids), data.labels[ids]

    calls = experiment.objective.augmentations
    augmentation = augmentation_inputs(
        calls, data.key, epoch, examples, data.train_ids, fetch
    )
    spread = over_member_rows if experiment.members else over_rows
    place = partial(jax.lax.with_sharding_constraint, shardings=spread(mesh))
    # The batch is written to memory before it is used. If the step were fused with the
    # gathering, it would be rounded differently from a step on a batch from the host.
    return jax.lax.optimization_barrier(
        Batch(*place((*fetch(examples), examples, weights, augmentation)))
    )


def _padded(parts: Array, padding: int) -> Array:
    """Return the array with zeros added at the end of the last axis."""
    return jnp.pad(parts, (*((0, 0),) * (parts.ndim - 1), (0, padding)))
