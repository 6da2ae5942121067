"""The training steps of `train.py`, to be timed, and its data for other libraries."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import ImagesAndLabels
from benchmarks.timing import Calls
from training import loop
from training.data.batches import batches_from, one_ahead
from training.experiment import Experiment
from training.programs import compile_step, programs_of
from training.start import start_state

# Other libraries get at least this many examples, because Keras is given all batches of
# a timing as one epoch.
EXAMPLES = 32_768


def our_training(experiment: Experiment) -> Calls:
    """Return a function that runs steps of the training loop and fetches batches."""
    state = start_state(experiment)
    step = programs_of(experiment, compile_step(experiment, state)[0]).step
    batches = one_ahead(batches_from(experiment, 0))
    current = [state]

    def train(steps: int) -> None:
        in_flight = deque()
        for _ in range(steps):
            current[0], metrics = step(current[0], next(batches))
            in_flight.append(loop.on_their_way(metrics))
            if len(in_flight) > loop.STEPS_IN_FLIGHT:
                jax.tree.map(np.asarray, in_flight.popleft())
        jax.block_until_ready(current)

    return train


def training_arrays(experiment: Experiment) -> ImagesAndLabels:
    """Return the standardised training data, repeated until there are `EXAMPLES`."""
    images, labels = experiment.data.train.fetch(experiment.train_ids)
    images = np.asarray(experiment.objective.standardise(jnp.asarray(images)))
    repeats = -(-EXAMPLES // len(labels))
    return np.tile(images, (repeats, 1, 1, 1)), np.tile(np.asarray(labels), repeats)
