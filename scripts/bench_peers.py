"""The same training steps in plain Flax, PyTorch and Keras, as one first writes them.

Each maker takes an architecture, the training data and a batch size, and gives a
function of a number of steps; it trains that many, waits for the last, and includes
fetching the data. PyTorch and Keras are left out where they are not installed.
"""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Train = Callable[[int], None]
Arrays = tuple[np.ndarray, np.ndarray]


class Architecture(NamedTuple):
    """Convolutions, each followed by 2x2 max-pooling, then dense layers.

    Attributes:
        channels: outputs of each convolution.
        size: of the kernels.
        padding: SAME or VALID.
        rectified: whether a ReLU follows each convolution.
        dense: outputs of each hidden dense layer; dropout 0.5 follows each.
    """

    channels: tuple[int, ...]
    size: int
    padding: str
    rectified: bool
    dense: tuple[int, ...]


ARCHITECTURES = {
    "cnn": Architecture((32, 64), 3, "VALID", True, (128,)),
    "cnn_same": Architecture((32, 64), 3, "SAME", True, (128,)),
    "lenet": Architecture((20, 50), 5, "VALID", False, (500,)),
    "mlp": Architecture((), 0, "", False, (1024, 1024)),
}
CLASSES = 10


def installed() -> dict[str, Callable[[Architecture, Arrays, int], Train]]:
    """The makers of the peers that can be imported."""
    found = {"flax": flax_training}
    if importlib.util.find_spec("torch"):
        found["pytorch"] = torch_training
    if importlib.util.find_spec("tensorflow"):
        found["keras"] = keras_training
    return found


def shuffled_batches(data: Arrays, batch_size: int) -> Iterator[Arrays]:
    """Endless epochs of full batches, each epoch a fresh permutation."""
    images, labels = data
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(len(labels))
        for ids in order[: len(order) // batch_size * batch_size].reshape(
            -1, batch_size
        ):
            yield images[ids], labels[ids]


def flattened_size(architecture: Architecture, image: tuple[int, ...]) -> int:
    """The inputs of the first dense layer."""
    height, width, _ = image
    for _ in architecture.channels:
        border = architecture.size - 1 if architecture.padding == "VALID" else 0
        height, width = (height - border) // 2, (width - border) // 2
    return height * width * (image[-1], *architecture.channels)[-1]


class FlaxNetwork(nnx.Module):
    """An architecture in plain Flax."""

    def __init__(self, architecture: Architecture, image: tuple[int, ...]):
        rngs = nnx.Rngs(0)
        channels = (image[-1], *architecture.channels)
        widths = (flattened_size(architecture, image), *architecture.dense)
        window = (architecture.size,) * 2
        self.architecture = architecture
        self.convolutions = nnx.List(
            nnx.Conv(a, b, window, padding=architecture.padding, rngs=rngs)
            for a, b in itertools.pairwise(channels)
        )
        self.dense = nnx.List(
            nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)
        )
        self.out = nnx.Linear(widths[-1], CLASSES, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        """Images (n, h, w, c) -> logits."""
        for layer in self.convolutions:
            x = nnx.relu(layer(x)) if self.architecture.rectified else layer(x)
            x = nnx.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for layer in self.dense:
            x = self.dropout(nnx.relu(layer(x)))
        return self.out(x)


def flax_training(architecture: Architecture, data: Arrays, batch_size: int) -> Train:
    """Flax NNX and optax under one jit."""
    network = FlaxNetwork(architecture, data[0].shape[1:])
    graph, params, others = nnx.split(network, nnx.Param, ...)
    optimizer = optax.adam(1e-3)
    current = [params, others, optimizer.init(params)]
    batches = shuffled_batches(data, batch_size)

    def loss_of(params, others, images, labels):
        model = nnx.merge(graph, params, others, copy=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
        return losses.mean(), nnx.state(model, nnx.Not(nnx.Param))

    @jax.jit
    def step(params, others, opt_state, images, labels):
        gradient, others = jax.grad(loss_of, has_aux=True)(
            params, others, images, labels
        )
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), others, opt_state

    def train(steps: int) -> None:
        for images, labels in itertools.islice(batches, steps):
            current[:] = step(*current, jnp.asarray(images), jnp.asarray(labels))
            # More steps in flight would each hold their own temporaries.
            jax.block_until_ready(current)

    return train


def torch_training(architecture: Architecture, data: Arrays, batch_size: int) -> Train:
    """PyTorch, eager."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    model = torch_network(architecture, data[0].shape[1:])
    optimizer = torch.optim.Adam(model.parameters())
    images = torch.from_numpy(np.ascontiguousarray(data[0].transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(data[1].astype(np.int64))

    def train(steps: int) -> None:
        for ids in torch.randint(len(labels), (steps, batch_size)):
            optimizer.zero_grad()
            logits = model(images[ids])
            torch.nn.functional.cross_entropy(logits, labels[ids]).backward()
            optimizer.step()

    return train


def torch_network(architecture: Architecture, image: tuple[int, ...]):
    """An architecture as a torch.nn.Sequential over NCHW."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    layers = []
    channels = (image[-1], *architecture.channels)
    border = (architecture.size - 1) // 2 if architecture.padding == "SAME" else 0
    for a, b in itertools.pairwise(channels):
        layers.append(nn.Conv2d(a, b, architecture.size, padding=border))
        layers += [nn.ReLU()] if architecture.rectified else []
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    widths = (flattened_size(architecture, image), *architecture.dense)
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


def keras_training(architecture: Architecture, data: Arrays, batch_size: int) -> Train:
    """Keras' own `model.fit` on arrays in memory, one epoch of the steps asked for."""
    import keras  # pyright: ignore[reportMissingImports]

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(data[0].shape[1:]), *keras_layers(architecture)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)

    def train(steps: int) -> None:
        images, labels = (array[: steps * batch_size] for array in data)
        model.fit(images, labels, batch_size=batch_size, verbose=0)

    return train


def keras_layers(architecture: Architecture) -> list:
    """An architecture as a list of Keras layers."""
    from keras import layers  # pyright: ignore[reportMissingImports]

    activation = "relu" if architecture.rectified else None
    found = []
    for channels in architecture.channels:
        found += [
            layers.Conv2D(
                channels,
                architecture.size,
                padding=architecture.padding.lower(),
                activation=activation,
            ),
            layers.MaxPooling2D(),
        ]
    found.append(layers.Flatten())
    for width in architecture.dense:
        found += [layers.Dense(width, activation="relu"), layers.Dropout(0.5)]
    return [*found, layers.Dense(CLASSES)]
