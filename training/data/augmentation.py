"""Augmentations of training images: pure functions of an example's key.

--augment='pad_crop(padding=4) flip mixup(alpha=0.2)'

They act in the order in which they are named. First come those that act on the host, on
the bytes of an image while it is read: `resized_crop` (`training.data.crops`), and then
distortions. The others act on standardised images, on the device
(`training.data.device_augmentations`); one that mixes two images comes last. Cutout is
the rule `input:cutout:...` of --dropout. To add an augmentation, write a function and
put its name into a registry.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key, Num

from dropout.grammar import Call, check_options, lookup, parse_call, split_outside
from dropout.keys import example_keys, fold, named_key
from training.data.color_jitter import color_jitter
from training.data.crops import Distortion, Picture, ResizedCrop, resized_crop
from training.data.device_augmentations import (
    Image,
    Share,
    cutmix,
    flip,
    mixup,
    pad_crop,
)
from training.data.randaugment import randaugment

AnyArray = Array | np.ndarray
Fetch = Callable[[Any], tuple[AnyArray, AnyArray]]


class Partners(NamedTuple):
    """The training examples that those of a batch are mixed with."""

    images: Num[Array, "*rows h w c"]
    labels: Int[Array, "*rows_and_positions"]


class AugmentationInputs(NamedTuple):
    """What a batch is augmented by: one key per example, and partners to mix with."""

    keys: Key[Array, "*rows"]
    partners: Partners | None


SINGLE: dict[str, Callable[..., Image]] = {"pad_crop": pad_crop, "flip": flip}
MIXING: dict[str, Callable[..., tuple[Image, Share]]] = {
    "mixup": mixup,
    "cutmix": cutmix,
}
CROPS: dict[str, Callable[..., ResizedCrop]] = {"resized_crop": resized_crop}
DISTORTIONS: dict[str, Callable[..., Picture]] = {
    "randaugment": randaugment,
    "color_jitter": color_jitter,
}
ON_HOST = {**CROPS, **DISTORTIONS}
AUGMENTATIONS = {**ON_HOST, **SINGLE, **MIXING}


def parse_augmentations(text: str) -> tuple[Call, ...]:
    """Return the augmentations that a text names, with spaces between them, or `none`.

    Raises:
        ValueError: an unknown name or option, one that mixes and is not the last, or
            one that acts on the host after one that does not.
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
    order = [0 if name in CROPS else 1 if name in DISTORTIONS else 2 for name in names]
    if order != sorted(order):
        raise ValueError(
            f"--augment={text}: expected {', '.join(CROPS)} first, and then "
            f"{', '.join(DISTORTIONS)}: they act on images as they are read."
        )
    crop_of(calls)
    return calls


def crop_of(calls: tuple[Call, ...]) -> ResizedCrop | None:
    """Return how images are cropped while they are read, if augmentations say so."""
    if not calls or calls[0].name not in CROPS:
        return None
    return CROPS[calls[0].name](**dict(calls[0].options))


def distortions_of(calls: tuple[Call, ...]) -> tuple[Distortion, ...]:
    """Return what distorts the images that training reads."""
    return tuple(
        partial(DISTORTIONS[call.name], **dict(call.options))
        for call in calls
        if call.name in DISTORTIONS
    )


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
