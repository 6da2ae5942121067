"""What the variants of other libraries do, in the numbers that ours are compared by.

All samples have fixed seeds. A case is a tuple: what is compared, then its options.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from parity.peers import peer
from parity.variant_inputs import (
    ALPHAS,
    BLOCKS,
    NOISE,
    ONES,
    PAPER,
    PATCHES,
    PATHS,
    RATES,
    TOKENS,
)  # fmt: skip

torch = peer("torch")
keras = peer("keras")
equinox = peer("equinox")
timm_layers = peer("timm.layers")
torchvision_ops = peer("torchvision.ops")


def channels_first(function, x, *arguments, **options):
    """A torch function on an array of channels last."""
    torch.manual_seed(0)
    axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
    tensor = torch.tensor(np.transpose(x, axes))
    y = function(tensor, *arguments, **options).detach().numpy()
    return np.moveaxis(y, 1, -1)


def in_keras(layer, x):
    return np.asarray(layer(x, training=True))


def in_equinox(x, rate):
    return np.asarray(equinox.nn.Dropout(rate)(jnp.asarray(x), key=jax.random.key(5)))


def decisions(dropped):
    """How many of how many were dropped."""
    return np.array([np.sum(dropped), np.size(dropped)])


def dropped_and_values(samples, of=lambda y: y):
    """For each library its decisions, and the values that occur."""
    found = {}
    for name, y in samples.items():
        found[f"{name} dropped"] = decisions(of(y) == 0)
        found[f"{name} values"] = np.unique(y)
    return found


def first_pixel(y):
    """Of maps whose channels are dropped as a whole."""
    assert (y == y[:, :1, :1]).all()
    return y[:, 0, 0]


def bernoulli(rate):
    dropout = torch.nn.functional.dropout
    return dropped_and_values({
        "torch": channels_first(dropout, ONES, rate, training=True),
        "keras": in_keras(keras.layers.Dropout(rate, seed=1), ONES),
        "equinox": in_equinox(ONES, rate),
    })  # fmt: skip


def spatial(rate):
    dropout = torch.nn.functional.dropout2d
    samples = {
        "torch": channels_first(dropout, ONES, rate, training=True),
        "keras": in_keras(keras.layers.SpatialDropout2D(rate, seed=1), ONES),
    }
    return dropped_and_values(samples, first_pixel)


def alpha(name, rate):
    """PyTorch's line through what it keeps, and the value of what it drops."""
    function = getattr(torch.nn.functional, name)
    y = channels_first(function, NOISE, rate, training=True)
    dropped = y < 0
    return {
        "line": np.polyfit(NOISE[~dropped], y[~dropped], 1),
        "value": y[dropped].mean(),
        "dropped": decisions(
            first_pixel(dropped) if name.startswith("feature") else dropped
        ),
    }


def gaussian(rate):
    """The first tenth of a sample."""
    layer = keras.layers.GaussianDropout(rate, seed=1)
    return {"keras": in_keras(layer, ONES).ravel()[:6144]}


def drop_path(rate):
    depth = torchvision_ops.stochastic_depth
    samples = {
        "timm": channels_first(timm_layers.drop_path, PATHS, rate, training=True),
        "torchvision": channels_first(depth, PATHS, rate, "row", training=True),
    }
    return dropped_and_values(samples, lambda y: y[:, 0, 0])


def patch(rate):
    """How many tokens are kept, and in how many rows each of them is."""
    torch.manual_seed(0)
    layer = timm_layers.PatchDropout(rate, num_prefix_tokens=1)
    kept = layer(torch.tensor(TOKENS)).numpy()[..., 0].astype(int)
    rows = [(kept == token).any(1).sum() for token in range(1, TOKENS.shape[1] + 1)]
    return {"kept": np.array(kept.shape[1]), "rows": np.array(rows)}


def paper(size, block):
    """How many maps have 0, 1, 2, ... positions dropped."""
    x = np.ones((4096, size, size, 16), np.float32)
    y = channels_first(torchvision_ops.drop_block2d, x, 0.1, block, training=True)
    return {"maps": np.bincount((y == 0).sum((1, 2)).ravel())}


def blocks(size, block, rate):
    """The rates that are realised."""
    x = np.ones((256, size, size, 16), np.float32)
    timm = channels_first(timm_layers.drop.drop_block_2d, x, rate, block)
    torchvision = channels_first(
        torchvision_ops.drop_block2d, x, rate, block, training=True
    )
    return {"timm": (timm == 0).mean(), "torchvision": (torchvision == 0).mean()}


def rate_1():
    """Equinox's gradient, and whether Keras' layers divide by zero."""

    def total(x):
        return equinox.nn.Dropout(1.0)(x, key=jax.random.key(0)).sum()

    layers = keras.layers.GaussianDropout, keras.layers.AlphaDropout
    return {
        "equinox": np.asarray(jax.grad(total)(jnp.ones(8))),
        "keras": np.array([divides_by_zero(layer(1.0)) for layer in layers]),
    }


def divides_by_zero(layer):
    try:
        layer(ONES, training=True)
    except ZeroDivisionError:
        return True
    return False


RESULTS = {
    **{
        f"{function.__name__} {rate}": partial(function, rate)
        for function in (bernoulli, spatial, gaussian, drop_path)
        for rate in RATES
    },
    **{f"{name} {rate}": partial(alpha, name, rate) for name, rate in ALPHAS},
    **{f"patch {rate}": partial(patch, rate) for rate in PATCHES},
    **{f"paper {case}": partial(paper, *case) for case in PAPER},
    **{f"blocks {case}": partial(blocks, *case) for case in BLOCKS},
    "rate 1": rate_1,
}


def results(case):
    """What other libraries do in one of the cases of `RESULTS`."""
    return RESULTS[case]()
