"""What each variant makes of what a site of its kind is given, as one picture."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dropout import Variant
from models.layers import pool_2x2
from training.data.sources import digits

KEY = jax.random.key(750)  # one that drops about as much as it should
SIDE = 18  # of a feature map
TIMES, UNITS = 40, 40
STEPS = EXAMPLES = 4
HEADS = ((-4, 60), (0, 30), (5, 90), (0, 400))  # where a head looks, how widely
FLOOR = 0.3  # all that is drawn lies above, so that what is dropped stands out

Picture = Float[Array, "height width"]


def family(entry: Variant) -> str:
    """The module, or the folder of modules, that a variant lives in."""
    return entry.draw.__module__.split(".")[2]


def picture(entry: Variant, rate: float | Array) -> Picture:
    """What a variant makes of what a site of its first kind is given."""
    recurrent = family(entry) == "recurrent" and entry.kinds[0] != "state"
    kind = "sequence" if recurrent else entry.kinds[0]
    # As an array, so that 0 and what a domain leaves out are made safe.
    return PICTURES[kind](entry, jnp.float32(rate))


def of_features(entry: Variant, rate: Array) -> Picture:
    """Nine channels of one feature map."""
    return mosaic(entry(KEY, feature_map(), rate)[0])


def of_image(entry: Variant, rate: Array) -> Picture:
    """Nine images."""
    return mosaic(jnp.moveaxis(entry(KEY, examples(), rate)[..., 0], 0, -1))


def of_window(entry: Variant, rate: Array) -> Picture:
    """A map after pooling over windows of 2x2."""
    return entry(KEY, waves()[None, :, :, None], rate, pool_2x2)[0, :, :, 0]


def of_kernel(entry: Variant, rate: Array) -> Picture:
    """A kernel, its inputs from top to bottom and its outputs from left to right."""
    layer = (jnp.ones((1, 1)), jnp.multiply)
    product = layer if entry.kernel_form == "product" else ()
    return entry(KEY, waves()[None], rate, *product)[0]


def of_branch(entry: Variant, rate: Array) -> Picture:
    """Branches of four examples, from left to right, at four steps."""
    return batches(entry(row_keys(entry), steps(examples()[:EXAMPLES]), rate))


def of_branches(entry: Variant, rate: Array) -> Picture:
    """Two digits, mixed."""
    first, second = (steps(examples()[i : i + EXAMPLES]) for i in (0, EXAMPLES))
    return batches(entry(row_keys(entry), first, rate, second))


def of_weights(entry: Variant, rate: Array) -> Picture:
    """Attention weights of four heads."""
    weights = jax.nn.softmax(attention_logits())
    return mosaic(jnp.moveaxis(entry(KEY, weights, rate)[0], 0, -1))


def of_logits(entry: Variant, rate: Array) -> Picture:
    """Attention weights of four heads whose logits were acted on."""
    logits = entry(KEY, attention_logits(), rate)
    return mosaic(jnp.moveaxis(jax.nn.softmax(logits)[0], 0, -1))


def of_sequence(entry: Variant, rate: Array) -> Picture:
    """Features of a sequence, step by step."""
    return entry(time_keys(entry), waves(), rate)


def of_state(entry: Variant, rate: Array) -> Picture:
    """A recurrent state, step by step, each from the one before."""

    def step(old: Array, now: tuple[Key[Array, ""], Array]) -> tuple[Array, Array]:
        key, new = now
        state = entry(key, new[None], rate, old[None])[0]
        return state, state

    new = waves()
    return jax.lax.scan(step, new[0], (time_keys(entry), new))[1]


PICTURES: dict[str, Callable[[Variant, Array], Picture]] = {
    "activation": of_features,
    "pre": of_features,
    "input": of_image,
    "window": of_window,
    "kernel": of_kernel,
    "branch": of_branch,
    "branches": of_branches,
    "weights": of_weights,
    "logits": of_logits,
    "sequence": of_sequence,
    "state": of_state,
}


@cache
def examples() -> Float[Array, "9 height width 1"]:
    """Digits of nine classes, between `FLOOR` and 1."""
    train, _ = digits()
    first = [
        int(np.argmax(train.labels == label)) for label in (3, 0, 5, 6, 9, 2, 7, 8, 4)
    ]
    pixels = jnp.asarray(train.images[np.array(first)], jnp.float32) / 255
    return FLOOR + (1 - FLOOR) * pixels[:, 2:-2, 2:-2]


@cache
def feature_map() -> Float[Array, "1 side side 9"]:
    """A smooth digit, and where it rises in each of eight directions."""
    digit = jax.image.resize(examples()[0, :, :, 0], (SIDE, SIDE), "linear")
    angles = np.arange(8) * np.pi / 4
    shifts = [(round(2 * np.sin(a)), round(2 * np.cos(a))) for a in angles]
    rises = [jnp.maximum(jnp.roll(digit, s, (0, 1)) - digit, 0) for s in shifts]
    channels = jnp.stack([*rises[:4], digit - FLOOR, *rises[4:]], -1)
    return FLOOR + (1 - FLOOR) * (channels / channels.max((0, 1), keepdims=True))[None]


def waves() -> Float[Array, "times units"]:
    """A smooth pattern between `FLOOR` and 1."""
    time, unit = np.arange(TIMES)[:, None], np.arange(UNITS)[None]
    phase = 2 * np.pi * time / 20 + 2.5 * np.sin(2 * np.pi * unit / 20)
    return jnp.asarray(FLOOR + (1 - FLOOR) * (0.5 + 0.5 * np.sin(phase)), jnp.float32)


def attention_logits() -> Float[Array, "1 heads queries keys"]:
    """Four heads that look behind, at, ahead of and all around a query."""
    query, key = np.arange(20)[:, None], np.arange(20)[None]
    heads = [-((key - query - shift) ** 2) / width for shift, width in HEADS]
    return jnp.asarray(np.stack(heads), jnp.float32)[None]


def row_keys(entry: Variant) -> Key[Array, " n"]:
    """A key a row of `steps`: one an example, or where it shares masks one a step."""
    rows = jnp.arange(STEPS * EXAMPLES)
    rows = rows // EXAMPLES if entry.unit == "batch" else rows
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, rows)


def time_keys(entry: Variant) -> Key[Array, " times"]:
    """A key for each time, the same where a mask belongs to the sequence."""
    times = jnp.arange(TIMES) if entry.per == "step" else jnp.zeros(TIMES, jnp.int32)
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, times)


def steps(batch: Float[Array, "n ..."]) -> Float[Array, "rows ..."]:
    """The same batch at every step."""
    return jnp.tile(batch, (STEPS, *(1,) * (batch.ndim - 1)))


def batches(x: Float[Array, "rows height width 1"]) -> Picture:
    """Steps from top to bottom, examples from left to right."""
    return mosaic(jnp.moveaxis(x[..., 0], 0, -1))


def mosaic(maps: Float[Array, "height width count"]) -> Picture:
    """A square number of maps in a square, row by row, with gaps of NaN."""
    height, width, count = maps.shape
    side = round(count**0.5)
    framed = jnp.pad(maps, ((0, 1), (0, 1), (0, 0)), constant_values=jnp.nan)
    grid = framed.reshape(height + 1, width + 1, side, side)
    whole = jnp.moveaxis(grid, (2, 3), (0, 2)).reshape(side * (height + 1), -1)
    return whole[:-1, :-1]
