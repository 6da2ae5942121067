"""The networks whose weights are read from files of other libraries."""

import jax
import numpy as np
from variant_cases import QUICK

from dropout import identity
from dropout.grammar import parse_call
from parity.made import normal
from training.network import build
from training.weights import read_weights, with_weights

ROWS, CLASSES = 3, 5
LARGE = (64, 96, 3)
RECORDED = {
    "resnet_imagenet(depth=10)": (32, 40, 3),
    "vit(patch=4, width=8, depth=2, heads=2, gelu='erf')": (8, 12, 3),
    "vit(patch=4, width=8, depth=2, heads=2, gelu='erf', class_token=True)": (8, 12, 3),
}
IMAGES = {
    **RECORDED,
    **{f"resnet_imagenet(depth={depth})": LARGE for depth in (18, 34, 50, 101, 152)},
    "vit_tiny(patch=16, gelu='erf')": LARGE,
    "vit_tiny(patch=16, gelu='erf', class_token=True)": LARGE,
    "vit_small(patch=16)": LARGE,
}


def values(shapes):
    """An array for each name of PyTorch's, of its usual size."""
    return {name: _value(name, shape) for name, shape in shapes.items()}


def _value(name, shape):
    if not shape:
        return np.int64(3)  # a batch norm's counter
    array = normal(name, shape)
    if len(shape) in (2, 4):
        return array * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    if name.endswith(("weight", "running_var")):
        return 0.5 + np.abs(array)
    return array * np.float32(0.3)


def loaded(text, path, classes=CLASSES):
    """Our network of a case with the weights of a file."""
    call = parse_call(text)
    network = build(call, IMAGES[text], classes, jax.random.key(0))
    return with_weights(network, call, classes, str(path), read_weights(str(path)))


def logits(network, text):
    images = normal("images", (ROWS, *IMAGES[text]))

    def forward(params, stats, images):
        return network.forward(params, stats, images, identity)[0]

    jitted = jax.jit(forward, compiler_options=QUICK)
    return np.asarray(jitted(*network.initial(jax.random.key(0)), images))


def assert_close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)
