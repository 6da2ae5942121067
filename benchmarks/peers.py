"""The same training steps in plain Flax, PyTorch and Keras, written as usual.

Each maker takes a network, the training data and a batch size. It returns a function
that trains a number of steps, fetches their data, and waits for the last one. PyTorch
and Keras are left out if they are not installed. On a GPU, PyTorch keeps its data there
and is also timed compiled.
"""

import importlib.util
from collections.abc import Callable
from functools import partial

from benchmarks.networks import ImagesAndLabels, Layers
from benchmarks.timing import Calls
from benchmarks.with_flax import flax_training
from benchmarks.with_keras import keras_training
from benchmarks.with_torch import torch_training, torch_transforms


def installed() -> dict[str, Callable[[Layers, ImagesAndLabels, int], Calls]]:
    """Return the makers of the peers that are installed, by name."""
    found = {"flax": flax_training}
    for name, transform in torch_transforms().items():
        found[name] = partial(torch_training, transform)
    if importlib.util.find_spec("tensorflow"):
        found["keras"] = keras_training
    return found
