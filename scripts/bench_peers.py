"""The same training steps in plain Flax, PyTorch and Keras, as one first writes them.

Each maker takes a network, the training data and a batch size, and gives a function of
a number of steps; it trains that many, waits for the last, and includes fetching the
data. PyTorch and Keras are left out where they are not installed. On a GPU PyTorch has
its data there, and is compiled too.
"""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from scripts.bench_networks import Convolution, Dense, Layer, Layers, Residual

Train = Callable[[int], None]
Arrays = tuple[np.ndarray, np.ndarray]
Features = Float[Array, "n ..."]

FLAX_FUNCTIONS = {
    "relu": nnx.relu,
    "pool": partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2)),
    "mean": lambda x: x.mean((1, 2)),
    "flatten": lambda x: x.reshape(x.shape[0], -1),
}


def installed() -> dict[str, Callable[[Layers, Arrays, int], Train]]:
    """The makers of the peers that can be imported."""
    found = {"flax": flax_training}
    for name, transform in torch_transforms().items():
        found[name] = partial(torch_training, transform)
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


def flax_training(layers: Layers, data: Arrays, batch_size: int) -> Train:
    """Flax NNX and optax under one jit."""
    network = flax_network(layers, jnp.asarray(data[0][:2]), nnx.Rngs(0))[0]
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
        jax.block_until_ready(current)

    return train


def flax_network(layers: Layers, x: Features, rngs: nnx.Rngs):
    """The network, and what it makes of `x`, from which the layers take their sizes."""
    found = []
    for layer in layers:
        found.append(flax_layer(layer, x, rngs))
        x = found[-1](x)
    return nnx.Sequential(*found), x


def flax_layer(layer: Layer, x: Features, rngs: nnx.Rngs) -> Callable:
    """One layer on features like `x`."""
    inputs = x.shape[-1]
    match layer:
        case Convolution(channels, size, stride, padding, bias):
            return nnx.Conv(
                inputs, channels, (size, size), (stride, stride), padding=padding,
                use_bias=bias, rngs=rngs,
            )  # fmt: skip
        case Dense(width):
            return nnx.Linear(inputs, width, rngs=rngs)
        case Residual(branch, stride, more):
            return FlaxResidual(flax_network(branch, x, rngs)[0], stride, more)
        case "norm" | "dense norm":
            return nnx.BatchNorm(inputs, rngs=rngs)
        case "dropout":
            return nnx.Dropout(0.5, rngs=rngs)
        case str(word):
            return FLAX_FUNCTIONS[word]


class FlaxResidual(nnx.Module):
    """A branch and its shortcut."""

    def __init__(self, branch: nnx.Sequential, stride: int, more: int):
        self.branch, self.stride, self.more = branch, stride, more

    def __call__(self, x: Features) -> Features:
        """Features -> features."""
        short = x[:, :: self.stride, :: self.stride]
        return self.branch(x) + jnp.pad(short, ((0, 0),) * 3 + ((0, self.more),))


def torch_transforms() -> dict[str, Callable[[Callable], Callable]]:
    """By name, the ways to run a function of PyTorch's here; none without PyTorch."""
    if not importlib.util.find_spec("torch"):
        return {}
    import torch  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        return {"pytorch": lambda function: function}
    # As JAX multiplies float32 by default on the same card.
    torch.set_float32_matmul_precision("high")
    return {
        "pytorch": lambda function: function,
        "torch.compile": torch.compile,
        "with CUDA graphs": partial(torch.compile, mode="reduce-overhead"),
    }


def torch_device() -> str:
    """Where PyTorch computes: on the GPU if there is one."""
    import torch  # pyright: ignore[reportMissingImports]

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_wait() -> None:
    """Waits for the GPU, where there is one."""
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_training(
    transform: Callable, layers: Layers, data: Arrays, batch_size: int
) -> Train:
    """PyTorch, its forward pass and loss under one of `torch_transforms`."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    device = torch_device()
    pixels = np.ascontiguousarray(data[0].transpose(0, 3, 1, 2))
    images = torch.from_numpy(pixels).to(device)
    labels = torch.from_numpy(data[1].astype(np.int64)).to(device)
    model = torch.nn.Sequential(*map(torch_layer, layers)).to(device)
    model(images[:2])  # Lazy layers take their sizes.
    optimizer = torch.optim.Adam(model.parameters(), fused=device == "cuda")

    @transform
    def loss_of(images, labels):
        return torch.nn.functional.cross_entropy(model(images), labels)

    def train(steps: int) -> None:
        for ids in torch.randint(len(labels), (steps, batch_size), device=device):
            optimizer.zero_grad()
            loss_of(images[ids], labels[ids]).backward()
            optimizer.step()
        torch_wait()

    return train


def torch_layer(layer: Layer):
    """One layer over NCHW."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    match layer:
        case Convolution(channels, size, stride, padding, bias):
            border = (size - 1) // 2 if padding == "SAME" else 0
            return nn.LazyConv2d(channels, size, stride, border, bias=bias)
        case Dense(width):
            return nn.LazyLinear(width)
        case Residual(branch, stride, more):
            return torch_residual(branch, stride, more)
        case str(word):
            return {
                "norm": nn.LazyBatchNorm2d,
                "dense norm": nn.LazyBatchNorm1d,
                "relu": nn.ReLU,
                "pool": partial(nn.MaxPool2d, 2),
                "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                "flatten": nn.Flatten,
                "dropout": partial(nn.Dropout, 0.5),
            }[word]()


def torch_residual(branch: Layers, stride: int, more: int):
    """A branch and its shortcut."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(*map(torch_layer, branch))

        def forward(self, x):
            short = x[:, :, ::stride, ::stride]
            return self.branch(x) + nn.functional.pad(short, (0, 0, 0, 0, 0, more))

    return Block()


def keras_training(layers: Layers, data: Arrays, batch_size: int) -> Train:
    """Keras' own `model.fit` on arrays in memory, one epoch of the steps asked for."""
    import keras  # pyright: ignore[reportMissingImports]

    keras.utils.set_random_seed(0)
    images = keras.Input(data[0].shape[1:])
    model = keras.Model(images, keras_network(layers, images))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)

    def train(steps: int) -> None:
        images, labels = (array[: steps * batch_size] for array in data)
        model.fit(images, labels, batch_size=batch_size, verbose=0)

    return train


def keras_network(layers: Layers, x):
    """What the layers make of Keras' symbolic `x`."""
    import keras  # pyright: ignore[reportMissingImports]

    for layer in layers:
        if isinstance(layer, Residual):
            short = x[:, :: layer.stride, :: layer.stride]
            short = keras.ops.pad(short, ((0, 0),) * 3 + ((0, layer.more_channels),))
            x = keras.layers.add([keras_network(layer.branch, x), short])
        else:
            x = keras_layer(layer)(x)
    return x


def keras_layer(layer: Convolution | Dense | str):
    """One layer but a residual one."""
    from keras import layers  # pyright: ignore[reportMissingImports]

    match layer:
        case Convolution(channels, size, stride, padding, bias):
            return layers.Conv2D(
                channels, size, stride, padding=padding.lower(), use_bias=bias
            )
        case Dense(width):
            return layers.Dense(width)
        case str(word):
            return {
                "norm": layers.BatchNormalization,
                "dense norm": layers.BatchNormalization,
                "relu": layers.ReLU,
                "pool": layers.MaxPooling2D,
                "mean": layers.GlobalAveragePooling2D,
                "flatten": layers.Flatten,
                "dropout": partial(layers.Dropout, 0.5),
            }[word]()
