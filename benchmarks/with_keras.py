"""Training steps in Keras, if it is installed."""

from functools import partial

from benchmarks.networks import (
    Convolution,
    DenseLayer,
    ImagesAndLabels,
    Layers,
    Residual,
)
from benchmarks.timing import Calls


def keras_training(layers: Layers, data: ImagesAndLabels, batch_size: int) -> Calls:
    """Return training with Keras' own `model.fit` on arrays in memory.

    Each timing is one epoch.
    """
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
    """Return the symbolic output of the layers for Keras' symbolic `x`."""
    import keras  # pyright: ignore[reportMissingImports]

    for layer in layers:
        if isinstance(layer, Residual):
            short = x[:, :: layer.stride, :: layer.stride]
            short = keras.ops.pad(short, ((0, 0),) * 3 + ((0, layer.more_channels),))
            x = keras.layers.add([keras_network(layer.branch, x), short])
        else:
            x = keras_layer(layer)(x)
    return x


def keras_layer(layer: Convolution | DenseLayer | str):
    """Return one layer other than a residual one."""
    from keras import layers  # pyright: ignore[reportMissingImports]

    match layer:
        case Convolution(channels, size, stride, padding, bias):
            return layers.Conv2D(
                channels, size, stride, padding=padding.lower(), use_bias=bias
            )
        case DenseLayer(width):
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
