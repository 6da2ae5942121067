"""Checks, before any step, that network, data and plan fit together in shape."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Key

from training.config import Config
from training.data.augmentation import augmentation_inputs
from training.data.splits import ShapedIds, Split
from training.dropout_parameters import with_learned, with_starts
from training.network import Network, Tree
from training.objective import Objective, summed_loss
from training.state import Batch


def check_calls(config: Config, network: Network, mesh: Mesh) -> None:
    """Check that the network takes what it has to be told with this configuration.

    Raises:
        ValueError: dropout is to be watched where nothing calls `drop`, or batch norms
            would count the padding of batches.
    """
    if config.telemetry and "drop" not in network.takes:
        raise ValueError(
            f"--telemetry: the __call__ of --model={config.model} takes no `drop`; "
            "expected one that calls it at its sites."
        )
    rows, devices = config.batch_size // config.microbatches, mesh.shape["data"]
    if rows % devices and network.stats and "row_weights" not in network.takes:
        raise ValueError(
            f"--batch_size={config.batch_size}: {rows} rows at a time over {devices} "
            f"devices are padded, and the batch norms of --model={config.model} would "
            f"count the padding; expected a multiple of {devices}."
        )


def check_outputs(
    network: Network, split: Split, objective: Objective, classes: int
) -> None:
    """Check that the network has one output per label, and one logit per class.

    Raises:
        ValueError: the numbers differ, or there are no images that can be augmented.
    """
    labels = split.shapes(1)[1].shape[1:]
    if network.outputs[:-1] != labels:
        raise ValueError(
            f"--model has outputs of shape {network.outputs[:-1]} per example, and "
            f"--dataset has labels of shape {labels}; expected the same: () "
            "for a network of images, (time,) for one of text."
        )
    if network.outputs[-1] != classes:
        raise ValueError(
            f"--model has {network.outputs[-1]} logits, and --dataset has {classes} "
            "classes; expected as many."
        )
    if objective.augmentations and labels:
        raise ValueError("--augment acts on images, and --dataset is text.")


def check_loss(
    network: Network,
    split: Split,
    objective: Objective,
    keys: Mapping[str, Key[Array, ""]],
) -> None:
    """Compute one loss abstractly, so that a variant meets the shape of its site.

    Raises:
        ValueError: a variant cannot act on the shape of a site.
    """
    if not objective.rows and not objective.augmentations:
        return
    # Whichever algorithm the steps take: this one is traced in the least time.
    objective = objective._replace(forward=network.forward_by("direct"))

    def loss(params: Tree, stats: Tree) -> Any:
        batch = _batch_of_zeros(split, objective, keys["data"])
        step = jnp.zeros((), jnp.int32)
        params = with_starts(with_learned(params, objective.learned), objective.rows)
        return summed_loss(objective, params, stats, step, batch, keys["dropout"])

    jax.eval_shape(loss, network.params, network.stats)


def _batch_of_zeros(split: Split, objective: Objective, key: Key[Array, ""]) -> Batch:
    def fetch(ids: ShapedIds) -> tuple[Array, Array]:
        images, labels = split.shapes(len(ids))
        return jnp.zeros(images.shape, images.dtype), jnp.zeros(labels.shape, jnp.int32)

    rows = jnp.zeros(2, jnp.int32)
    augmentation = augmentation_inputs(
        objective.augmentations, key, 0, rows, rows, fetch
    )
    return Batch(*fetch(rows), rows, jnp.ones(2), augmentation)
