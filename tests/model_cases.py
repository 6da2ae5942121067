"""The smallest instance of every model, and the sites that a model calls."""

from functools import cache

import jax
import jax.numpy as jnp
from flax import nnx
from variant_cases import QUICK

from dropout import record_sites
from dropout.grammar import parse_call
from models import create

TINY = (
    "all_conv(widths=(4, 6))", "char_rnn", "cnn(widths=(3, 4), dense=5)",
    "cnn_same(widths=(3, 4), dense=5)", "gru(units=5)", "lenet", "lstm(units=5)",
    "mlp(widths=(6, 5))", "plain(depth=3, width=3)", "resnet(depth=8, width=4)",
    "resnet_imagenet(depth=14, width=4)", "shake_shake(depth=8, width=4)",
    "vgg(depth=11, width=4, dense=5)", "vit(patch=4, width=8, depth=1, heads=2)",
    "vit_small(patch=4, depth=1)",
    "vit_tiny(patch=4, depth=1)",
    "wrn(depth=10, width=1)",
)  # fmt: skip


def made(text, image, classes, key):
    """A network whose parameters one program makes; one by one they take a few times
    as long to compile."""

    def parts(key):
        return nnx.split(create(parse_call(text), image, classes, key))

    return nnx.merge(*jax.jit(parts, compiler_options=QUICK)(key))


@cache
def sites_of(text, image=(28, 28, 1), classes=10):
    """The sites that a model calls, in order."""

    def call(drop):
        model = create(parse_call(text), image, classes, jax.random.key(0))
        return model(jnp.ones((2, *image)), drop)

    return record_sites(call)


def site_names(text, image=(28, 28, 1), classes=10):
    return tuple(site.name for site in sites_of(text, image, classes))
