"""Checks, before any step, that network, data and plan fit together in shape."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Key

from dropout import identity
from training.config import Config
from training.data.augmentation import augmentation_inputs
from training.data.splits import Split
from training.dropout_parameters import with_learned, with_starts
from training.network import Network
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
        ValueError: it has not, or images are to be augmented and there are none.
    """
    images, labels = map(jnp.asarray, split.fetch(jnp.zeros(2, jnp.int32)))
    logits = jax.eval_shape(
        lambda params: network.forward(
            params, network.stats, objective.standardise(images), identity
        )[0],
        network.params,
    )
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"--model has outputs of shape {logits.shape[1:-1]} per example, and "
            f"--dataset has labels of shape {labels.shape[1:]}; expected the same: () "
            "for a network of images, (time,) for one of text."
        )
    if logits.shape[-1] != classes:
        raise ValueError(
            f"--model has {logits.shape[-1]} logits, and --dataset has {classes} "
            "classes; expected as many."
        )
    if objective.augmentations and labels.ndim > 1:
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
    rows, step = jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32)
    images, labels = map(jnp.asarray, split.fetch(rows))
    augmentation = augmentation_inputs(
        objective.augmentations, keys["data"], 0, rows, rows, split.fetch
    )
    batch = Batch(images, labels, rows, jnp.ones(2), augmentation)
    jax.eval_shape(
        lambda params: summed_loss(
            objective, params, network.stats, step, batch, keys["dropout"]
        ),
        with_starts(with_learned(network.params, objective.learned), objective.rows),
    )
