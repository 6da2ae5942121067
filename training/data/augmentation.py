"""Augmentations of training images: pure functions of an example's key.

--augment='pad_crop(padding=4) flip mixup(alpha=0.2)'

They act on standardised images, in which 0 is the mean of each channel, in the order in
which they are named; one that mixes two images comes last. `resized_crop` comes first:
it acts on the host, while an image is read (`training.data.crops`). Cutout is the rule
`input:cutout:...` of --dropout. To add one, write a function and put its name into a
registry.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key, Num

from dropout.grammar import (
    Call,
    Interval,
    check_options,
    lookup,
    parse_call,
    split_outside,
)
from dropout.keys import example_keys, fold, named_key
from training.data.crops import ResizedCrop, resized_crop

AnyArray = Array | np.ndarray
Image = Float[Array, "h w c"]
Share = Float[Array, ""]
PadWidth = Annotated[int, Interval("[0, 4096]")]
Alpha = Annotated[float, Interval("(0, 1e6]")]
Fetch = Callable[[Any], tuple[AnyArray, AnyArray]]


class Partners(NamedTuple):
    """The training examples that those of a batch are mixed with."""

    images: Num[Array, "*rows h w c"]
    labels: Int[Array, "*rows_and_positions"]


class AugmentationInputs(NamedTuple):
    """What a batch is augmented by: one key per example, and partners to mix with."""

    keys: Key[Array, "*rows"]
    partners: Partners | None


def pad_crop(key: Key[Array, ""], image: Image, *, padding: PadWidth = 4) -> Image:
    """Shift by up to `padding` pixels in each direction and fill up with zeros.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Raises:
        ValueError: a negative padding.
    """
    if padding < 0:
        raise ValueError(f"pad_crop(padding={padding}): expected 0 or more.")
    height, width, _ = image.shape
    rows, columns = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    down = jax.lax.dynamic_slice_in_dim(padded, rows, height, 0)
    return jax.lax.dynamic_slice_in_dim(down, columns, width, 1)


def flip(key: Key[Array, ""], image: Image) -> Image:
    """Mirror left and right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def mixup(
    key: Key[Array, ""], image: Image, partner: Image, *, alpha: Alpha = 0.2
) -> tuple[Image, Share]:
    """Mix two images, and their labels alike: s image + (1 - s) partner.

    s ~ Beta(alpha, alpha) for each example.
    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR.

    Raises:
        ValueError: `alpha` is not positive.
    """
    share = _beta("mixup", key, alpha)
    return share * image + (1 - share) * partner, share


def cutmix(
    key: Key[Array, ""], image: Image, partner: Image, *, alpha: Alpha = 1.0
) -> tuple[Image, Share]:
    """Put a box of the partner into the image; labels are shared by area.

    The box has the image's proportions and the area 1 - s, s ~ Beta(alpha, alpha), a
    uniform centre, and is cut off at the border.
    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong
        Classifiers with Localizable Features", ICCV.

    Raises:
        ValueError: `alpha` is not positive.
    """
    side = jnp.sqrt(1 - _beta("cutmix", named_key(key, "area"), alpha))
    centre = jax.random.uniform(named_key(key, "centre"), (2,))
    inside = [
        _interval(length, middle, side) for length, middle in zip(image.shape, centre)
    ]
    box = inside[0][:, None] & inside[1][None]
    share = 1 - box.mean(dtype=jnp.float32)
    return jnp.where(box[..., None], partner, image), share


SINGLE: dict[str, Callable[..., Image]] = {"pad_crop": pad_crop, "flip": flip}
MIXING: dict[str, Callable[..., tuple[Image, Share]]] = {
    "mixup": mixup,
    "cutmix": cutmix,
}
ON_HOST: dict[str, Callable[..., ResizedCrop]] = {"resized_crop": resized_crop}
AUGMENTATIONS = {**SINGLE, **MIXING, **ON_HOST}


def parse_augmentations(text: str) -> tuple[Call, ...]:
    """Return the augmentations that a text names, with spaces between them, or `none`.

    Raises:
        ValueError: an unknown name or option, one that mixes and is not the last, or
            one that acts on the host and is not the first.
    """
    if text.strip() in ("", "none"):
        return ()
    calls = tuple(map(parse_call, split_outside(" ".join(text.split()), " ")))
    for call in calls:
        function = lookup("augmentation", call.name, AUGMENTATIONS)
        check_options("augmentation", call, function)
    names = [call.name for call in calls]
    if len(set(names)) < len(names) or any(name in MIXING for name in names[:-1]):
        raise ValueError(
            f"--augment={text}: expected each augmentation once, and one of "
            f"{', '.join(MIXING)} last."
        )
    if any(name in ON_HOST for name in names[1:]):
        raise ValueError(
            f"--augment={text}: expected {', '.join(ON_HOST)} first: images are "
            "cropped as they are read."
        )
    crop_of(calls)
    return calls


def crop_of(calls: tuple[Call, ...]) -> ResizedCrop | None:
    """Return how images are cropped while they are read, if augmentations say so."""
    if not calls or calls[0].name not in ON_HOST:
        return None
    return ON_HOST[calls[0].name](**dict(calls[0].options))


def on_device(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """Return the augmentations that act on the images of a batch."""
    return tuple(call for call in calls if call.name not in ON_HOST)


def mixes(calls: tuple[Call, ...]) -> bool:
    """Return whether each image is mixed with another one, its partner."""
    return bool(calls) and calls[-1].name in MIXING


def augmentations_text(calls: tuple[Call, ...]) -> str:
    """Return the canonical text of augmentations."""
    return " ".join(map(str, calls)) or "none"


def augmentation_inputs(
    calls: tuple[Call, ...],
    key: Key[Array, "*members"],
    epoch: Int[Array, ""] | int,
    examples: Int32[AnyArray, "*rows"],
    train_ids: Int32[AnyArray, "*members train"],
    fetch: Fetch,
) -> AugmentationInputs | None:
    """Return what training examples are augmented by in an epoch; None if by nothing.

    Args:
        calls: the augmentations.
        key: the key of the data, or one for each member along the first axis.
        epoch: counts from 0.
        examples: their ids, of any shape.
        train_ids: the examples from which partners are chosen.
        fetch: gives images and labels of ids.
    """
    if not calls:
        return None
    # Each member of a population has its own key and its own training examples.
    over_members = jax.vmap if key.ndim else lambda function, axes: function
    keys = over_members(keys_of_examples, (0, None, 0))(key, epoch, examples)
    if not mixes(calls):
        return AugmentationInputs(keys, None)
    partners = over_members(partners_of, (0, 0))(keys, train_ids)
    return AugmentationInputs(keys, Partners(*map(jnp.asarray, fetch(partners))))


def augment(
    calls: tuple[Call, ...],
    images: Float[Array, "n h w c"],
    partners: Float[Array, "n h w c"] | None,
    keys: Key[Array, " n"],
) -> tuple[Float[Array, "n h w c"], Float[Array, " n"] | None]:
    """Return the augmented images and, if mixed, the share of each image's own label.

    A partner goes through the same augmentations as an image, under keys of its own.
    """
    single = [call for call in calls if call.name in SINGLE]
    images = jax.vmap(partial(_augment_one, single))(keys, images)
    if partners is None:
        return images, None
    theirs = named_key(keys, "partner")
    partners = jax.vmap(partial(_augment_one, single))(theirs, partners)
    mix = partial(MIXING[calls[-1].name], **dict(calls[-1].options))
    return jax.vmap(mix)(named_key(keys, calls[-1].name), images, partners)


@jax.jit
def keys_of_examples(
    key: Key[Array, ""], epoch: Int[Array, ""] | int, examples: Int32[AnyArray, "*rows"]
) -> Key[Array, "*rows"]:
    """Return one key per example: data -> "augment" -> epoch -> example."""
    key = fold(named_key(key, "augment"), epoch)
    keys = example_keys(key, jnp.asarray(examples).reshape(-1))
    return keys.reshape(examples.shape)


@jax.jit
def partners_of(
    keys: Key[Array, "*rows"], train_ids: Int32[AnyArray, " train"]
) -> Int[Array, "*rows"]:
    """Return the training example that each one is mixed with, chosen by its key."""
    flat = named_key(keys.reshape(-1), "partner")
    drawn = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(train_ids)))(flat)
    return train_ids[drawn].reshape(keys.shape)


def _augment_one(calls: list[Call], key: Key[Array, ""], image: Image) -> Image:
    for call in calls:
        function = SINGLE[call.name]
        image = function(named_key(key, call.name), image, **dict(call.options))
    return image


def _beta(name: str, key: Key[Array, ""], alpha: float) -> Share:
    if not alpha > 0:
        raise ValueError(f"{name}(alpha={alpha}): expected more than 0.")
    return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def _interval(length: int, middle: Share, side: Share) -> Array:
    """Return which pixels lie in an interval of `side` times the length."""
    size = (length * side).astype(jnp.int32)
    first = (length * middle).astype(jnp.int32) - size // 2
    pixels = jnp.arange(length)
    return (pixels >= first) & (pixels < first + size)
