"""Training steps in plain Flax, written as usual."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from benchmarks.networks import (
    Convolution,
    DenseLayer,
    ImagesAndLabels,
    Layer,
    Layers,
    Residual,
)
from benchmarks.timing import Calls

Features = Float[Array, "n ..."]

FLAX_FUNCTIONS = {
    "relu": nnx.relu,
    "pool": partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2)),
    "mean": lambda x: x.mean((1, 2)),
    "flatten": lambda x: x.reshape(x.shape[0], -1),
}


def shuffled_batches(
    data: ImagesAndLabels, batch_size: int
) -> Iterator[ImagesAndLabels]:
    """Yield full batches without end, each epoch in a fresh permutation."""
    images, labels = data
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(len(labels))
        for ids in order[: len(order) // batch_size * batch_size].reshape(
            -1, batch_size
        ):
            yield images[ids], labels[ids]


def flax_training(layers: Layers, data: ImagesAndLabels, batch_size: int) -> Calls:
    """Return training steps in Flax NNX and optax under one plain `jax.jit`."""
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
    """Return the network and its output for `x`, from which layers take their sizes."""
    found = []
    for layer in layers:
        found.append(flax_layer(layer, x, rngs))
        x = found[-1](x)
    return nnx.Sequential(*found), x


def flax_layer(layer: Layer, x: Features, rngs: nnx.Rngs) -> Callable:
    """Return one layer for features shaped like `x`."""
    inputs = x.shape[-1]
    match layer:
        case Convolution(channels, size, stride, padding, bias):
            return nnx.Conv(
                inputs, channels, (size, size), (stride, stride), padding=padding,
                use_bias=bias, rngs=rngs,
            )  # fmt: skip
        case DenseLayer(width):
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
    """A branch and its shortcut, padded with channels of zeros."""

    def __init__(self, branch: nnx.Sequential, stride: int, more: int):
        self.branch, self.stride, self.more = branch, stride, more

    def __call__(self, x: Features) -> Features:
        """Return the branch of `x` plus the shortcut."""
        short = x[:, :: self.stride, :: self.stride]
        return self.branch(x) + jnp.pad(short, ((0, 0),) * 3 + ((0, self.more),))
