"""A picture of each variant: its effect on an array at a site of its kind."""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dropout import Variant
from models.layers import pool_2x2
from pages.families import family
from training.data.sources import digits

KEY = jax.random.key(159)  # Chosen so that the masks shown drop a share near `rate`.
SIDE = 18  # The side of a feature map, in pixels.
TIMES, UNITS = 40, 40
STEPS = EXAMPLES = 4
HEADS = ((-4, 60), (0, 30), (5, 90), (0, 400))  # The shift and width of each head.
FLOOR = 0.3  # All inputs lie above it, so that dropped elements stand out.

Pixels = Float[Array, "height width"]


def picture(entry: Variant, rate: float | Array) -> Pixels:
    """Return the output of a variant at a site of its first kind."""
    recurrent = family(entry) == "recurrent" and entry.kinds[0] != "state"
    kind = "sequence" if recurrent else entry.kinds[0]
    # Both are cached, which has to happen outside of the traced function.
    examples()
    feature_map()
    # Traced, since a number outside the domain, 0 say, would raise ValueError.
    return jax.jit(partial(PICTURES[kind], entry))(jnp.float32(rate))


def of_features(entry: Variant, rate: Array) -> Pixels:
    """Return nine channels of one feature map."""
    return mosaic(entry(KEY, feature_map(), rate)[0])


def of_nonlinearity(entry: Variant, rate: Array) -> Pixels:
    """Return nine channels of one feature map whose darker half is negative."""
    middle = (1 + FLOOR) / 2
    return mosaic(middle + entry(KEY, feature_map() - middle, rate, jax.nn.relu)[0])


def of_image(entry: Variant, rate: Array) -> Pixels:
    """Return nine images."""
    return mosaic(jnp.moveaxis(entry(KEY, examples(), rate)[..., 0], 0, -1))


def of_window(entry: Variant, rate: Array) -> Pixels:
    """Return a map after pooling over windows of 2x2."""
    return entry(KEY, waves()[None, :, :, None], rate, pool_2x2)[0, :, :, 0]


def of_kernel(entry: Variant, rate: Array) -> Pixels:
    """Return a kernel: inputs from top to bottom, outputs from left to right."""
    layer = (jnp.ones((1, 1, 1)), jnp.multiply)
    product = layer if entry.kernel_form == "product" else ()
    return entry(KEY, waves()[None], rate, *product)[0]


def of_branch(entry: Variant, rate: Array) -> Pixels:
    """Return branches of four examples, from left to right, at four steps."""
    return by_step(entry(image_keys(entry), repeated(examples()[:EXAMPLES]), rate))


def of_branches(entry: Variant, rate: Array) -> Pixels:
    """Return mixtures of two digits, for four examples at four steps."""
    first, second = (repeated(examples()[i : i + EXAMPLES]) for i in (0, EXAMPLES))
    return by_step(entry(image_keys(entry), first, rate, second))


def of_weights(entry: Variant, rate: Array) -> Pixels:
    """Return the attention weights of four heads."""
    weights = jax.nn.softmax(attention_logits())
    return mosaic(jnp.moveaxis(entry(KEY, weights, rate)[0], 0, -1))


def of_logits(entry: Variant, rate: Array) -> Pixels:
    """Return the attention weights of four heads after the variant at their logits."""
    logits = entry(KEY, attention_logits(), rate)
    return mosaic(jnp.moveaxis(jax.nn.softmax(logits)[0], 0, -1))


def of_sequence(entry: Variant, rate: Array) -> Pixels:
    """Return the features of a sequence, with time from top to bottom."""
    return entry(time_keys(entry), waves(), rate)


def of_state(entry: Variant, rate: Array) -> Pixels:
    """Return a recurrent state over time, each state made from the one before."""

    def step(old: Array, now: tuple[Key[Array, ""], Array]) -> tuple[Array, Array]:
        key, new = now
        state = entry(key, new[None], rate, old[None])[0]
        return state, state

    new = waves()
    return jax.lax.scan(step, new[0], (time_keys(entry), new))[1]


PICTURES: dict[str, Callable[[Variant, Array], Pixels]] = {
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
    "act": of_nonlinearity,
}


@cache
def examples() -> Float[Array, "9 height width 1"]:
    """Return digits of nine classes, between `FLOOR` and 1."""
    train, _ = digits()
    first = [
        int(np.argmax(train.labels == label)) for label in (3, 0, 5, 6, 9, 2, 7, 8, 4)
    ]
    pixels = jnp.asarray(train.images[np.array(first)], jnp.float32) / 255
    return FLOOR + (1 - FLOOR) * pixels[:, 2:-2, 2:-2]


@cache
def feature_map() -> Float[Array, "1 side side 9"]:
    """Return a smooth digit, and where it rises in each of eight directions."""
    digit = jax.image.resize(examples()[0, :, :, 0], (SIDE, SIDE), "linear")
    angles = np.arange(8) * np.pi / 4
    shifts = [(round(2 * np.sin(a)), round(2 * np.cos(a))) for a in angles]
    rises = [jnp.maximum(jnp.roll(digit, s, (0, 1)) - digit, 0) for s in shifts]
    channels = jnp.stack([*rises[:4], digit - FLOOR, *rises[4:]], -1)
    return FLOOR + (1 - FLOOR) * (channels / channels.max((0, 1), keepdims=True))[None]


def waves() -> Float[Array, "times units"]:
    """Return a smooth pattern between `FLOOR` and 1."""
    time, unit = np.arange(TIMES)[:, None], np.arange(UNITS)[None]
    phase = 2 * np.pi * time / 20 + 2.5 * np.sin(2 * np.pi * unit / 20)
    return jnp.asarray(FLOOR + (1 - FLOOR) * (0.5 + 0.5 * np.sin(phase)), jnp.float32)


def attention_logits() -> Float[Array, "1 heads queries keys"]:
    """Return four heads that attend behind, at, ahead of and all around a query."""
    query, key = np.arange(20)[:, None], np.arange(20)[None]
    heads = [-((key - query - shift) ** 2) / width for shift, width in HEADS]
    return jnp.asarray(np.stack(heads), jnp.float32)[None]


def image_keys(entry: Variant) -> Key[Array, " n"]:
    """Return a key per image of `repeated`, shared by a batch where its mask is."""
    numbers = jnp.arange(STEPS * EXAMPLES)
    numbers = numbers // EXAMPLES if entry.unit == "batch" else numbers
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, numbers)


def time_keys(entry: Variant) -> Key[Array, " times"]:
    """Return a key per time, all equal where a mask belongs to the sequence."""
    times = jnp.arange(TIMES) if entry.per == "step" else jnp.zeros(TIMES, jnp.int32)
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, times)


def repeated(batch: Float[Array, "n ..."]) -> Float[Array, "images ..."]:
    """Return the same batch at every step, all in one array."""
    return jnp.tile(batch, (STEPS, *(1,) * (batch.ndim - 1)))


def by_step(x: Float[Array, "images height width 1"]) -> Pixels:
    """Return images with steps from top to bottom and examples from left to right."""
    return mosaic(jnp.moveaxis(x[..., 0], 0, -1))


def mosaic(maps: Float[Array, "height width count"]) -> Pixels:
    """Arrange a square number of maps in one square, line by line, with NaN between."""
    height, width, count = maps.shape
    side = round(count**0.5)
    framed = jnp.pad(maps, ((0, 1), (0, 1), (0, 0)), constant_values=jnp.nan)
    grid = framed.reshape(height + 1, width + 1, side, side)
    whole = jnp.moveaxis(grid, (2, 3), (0, 2)).reshape(side * (height + 1), -1)
    return whole[:-1, :-1]
