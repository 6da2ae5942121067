"""The training steps of `train.py`, to be timed, and its data for other libraries."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import ImagesAndLabels
from benchmarks.timing import Calls
from training import loop
from training.experiment import Experiment
from training.programs import compile_programs
from training.start import start_state
from training.state import steps_done
from training.step import Metrics

# Other libraries get at least this many examples, because Keras is given all batches of
# a timing as one epoch.
EXAMPLES = 32_768


def our_training(experiment: Experiment) -> Calls:
    """Return a function that runs steps of the training loop and fetches batches."""
    state = start_state(experiment)
    programs, _ = compile_programs(experiment, state)
    current = [state]

    def train(steps: int) -> None:
        done = steps_done(current[0])
        current[0] = loop.advance(
            programs, experiment.timeline, current[0], done + steps, never, fetched
        )

    return train


def never() -> bool:
    """Return that nothing asks for a stop."""
    return False


def fetched(first: int, count: int, metrics: Metrics) -> None:
    """Fetch the metrics of a call."""
    jax.tree.map(np.asarray, metrics)


def training_arrays(experiment: Experiment) -> ImagesAndLabels:
    """Return the standardised training data, repeated until there are `EXAMPLES`."""
    images, labels = experiment.data.train.fetch(experiment.train_ids)
    images = np.asarray(experiment.objective.standardise(jnp.asarray(images)))
    repeats = -(-EXAMPLES // len(labels))
    return np.tile(images, (repeats, 1, 1, 1)), np.tile(np.asarray(labels), repeats)
