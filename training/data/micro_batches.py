"""The rows of a batch in micro-batches, and those that this process holds."""

import numpy as np
from jaxtyping import Float32, Int32

from training.experiment import Experiment
from training.runtime.devices import own_rows


def micro_batches(
    experiment: Experiment, ids: Int32[np.ndarray, "*batches b"]
) -> tuple[Int32[np.ndarray, "*batches k m"], Float32[np.ndarray, "*batches k m"]]:
    """Return examples and weights in micro-batches of a multiple of the devices.

    Padding has weight 0. Of several processes each has the rows of its own devices.
    """
    parts = ids.reshape(*ids.shape[:-1], experiment.config.microbatches, -1)
    padding = -parts.shape[-1] % experiment.mesh.shape["data"]
    own = own_rows(experiment.mesh, parts.shape[-1] + padding)
    weights = np.ones(parts.shape, np.float32)
    return _padded(parts, padding)[..., own], _padded(weights, padding)[..., own]


def _padded(parts: np.ndarray, padding: int) -> np.ndarray:
    """Return the array with zeros added at the end of the last axis."""
    # numpy.pad takes longer than fetching the images.
    zeros = np.zeros((*parts.shape[:-1], padding), parts.dtype)
    return np.concatenate((parts, zeros), axis=-1)
