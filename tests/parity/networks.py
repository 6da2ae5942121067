"""The networks that are compared with other libraries, and their arrays."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from dropout.grammar import parse_call
from models import create
from parity.made import normal, parameter
from training.network import functional

ROWS, CLASSES = 6, 4

# By text: the image, with odd sides where the network takes them.
IMAGES = {
    "all_conv(widths=(4, 6))": (13, 12, 2),
    "char_rnn(cell='gru', embedding=5, units=6, layers=2)": (7, 9, 1),
    "cnn(widths=(3, 4), dense=5)": (12, 13, 2),
    "cnn_same(widths=(3, 4), dense=5)": (9, 8, 2),
    "gru(units=5)": (7, 9, 2),
    "lenet": (18, 21, 1),
    "lstm(units=5)": (7, 9, 2),
    "mlp(widths=(6, 5))": (5, 4, 2),
    "plain(depth=3, width=3)": (9, 8, 2),
    "resnet(depth=8, width=4)": (13, 12, 3),
    "resnet_imagenet(depth=10)": (32, 40, 3),
    "resnet_imagenet(depth=14)": (33, 37, 3),
    "shake_shake(depth=8, width=4)": (13, 12, 3),
    "vgg(depth=11, width=4, dense=5)": (31, 64, 3),
    "vit(patch=4, width=8, depth=2, heads=2)": (8, 12, 3),
    "vit_small(patch=4, depth=1)": (4, 8, 1),
    "vit_tiny(patch=4, depth=1)": (4, 8, 1),
    "wrn(depth=10, width=1)": (13, 12, 3),
}


def our_network(text):
    """Our network as a function, its arrays made from their names."""
    make = partial(create, parse_call(text), IMAGES[text], CLASSES, jax.random.key(0))
    network = functional(make(), IMAGES[text])
    params, stats = (
        jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.asarray(parameter(text_of(path), leaf.shape)), tree
        )
        for tree in (network.params, network.stats)
    )
    return network._replace(params=params, stats=stats)


def arrays_of(text):
    """All arrays of a network by path: parameters, and running statistics."""
    make = partial(create, parse_call(text), IMAGES[text], CLASSES, jax.random.key(0))
    _, params, stats = nnx.split(nnx.eval_shape(make), nnx.Param, nnx.BatchStat)
    return tuple(
        {path: parameter(path, leaf.shape) for path, leaf in flat(tree).items()}
        for tree in map(nnx.to_pure_dict, (params, stats))
    )


def flat(tree):
    """The leaves of a tree of dictionaries by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {text_of(path): leaf for path, leaf in leaves}


def text_of(path):
    return "/".join(str(key.key) for key in path)


def images_of(text):
    return normal("images", (ROWS, *IMAGES[text]))
