"""What other libraries erase from images, as boxes: height, width, top, left, or 0."""

import random
from functools import partial

import numpy as np

from parity.peers import peer
from parity.variant_inputs import (
    CELLS,
    GRID_RATE,
    PICTURE,
    RECTANGLE,
    REGION_RATE,
    boxes,
)

torch = peer("torch")
albumentations = peer("albumentations")
transforms = peer("torchvision.transforms")
timm_erasing = peer("timm.data.random_erasing")

SAMPLES = 4096


def erased(transform, samples=SAMPLES):
    """True where a function makes an image of ones 0, for each of its samples."""
    return np.stack([transform() == 0 for _ in range(samples)])


def in_torch(transform):
    """A transform of tensors, channels first."""
    torch.manual_seed(0)
    random.seed(0)
    return lambda: transform(torch.ones(1, *PICTURE))[0].numpy()


def in_albumentations(transform):
    whole = albumentations.Compose([transform], seed=0)
    return lambda: whole(image=np.ones((*PICTURE, 1), np.float32))["image"][..., 0]


def random_erasing():
    """Squares: with other aspects both draw them log-uniformly, and the authors' code
    and ours uniformly."""
    area, aspect = (0.02, 0.4), (1.0, 1.0)
    torchvision = transforms.RandomErasing(REGION_RATE, area, aspect)
    timm = timm_erasing.RandomErasing(
        REGION_RATE, *area, *aspect, device="cpu", max_count=1
    )
    return {
        name: boxes(erased(in_torch(transform)))
        for name, transform in (("torchvision", torchvision), ("timm", timm))
    }


def erase(name):
    """A rectangle of one size, or a stripe from top to bottom."""
    height, width = RECTANGLE[name]
    makers = {
        "rectangle": albumentations.CoarseDropout(
            (1, 1), (height, height), (width, width), p=REGION_RATE
        ),
        "stripe": albumentations.XYMasking(
            (1, 1), (0, 0), (width, width), p=REGION_RATE
        ),
    }
    return {"albumentations": boxes(erased(in_albumentations(makers[name])))}


def grid_mask():
    """A hole in each cell, at its first corner; theirs are not moved with the grid."""
    transform = albumentations.GridDropout(
        0.5, random_offset=False, holes_number_xy=CELLS, p=GRID_RATE
    )
    holes = erased(in_albumentations(transform))
    whole = holes.any((1, 2))
    return {"hole": holes[whole][0], "dropped": np.array([whole.sum(), whole.size])}


RESULTS = {
    "random_erasing": random_erasing,
    **{f"erase {name}": partial(erase, name) for name in RECTANGLE},
    "grid_mask": grid_mask,
}


def results(case):
    """What other libraries erase in one of the cases of `RESULTS`."""
    return RESULTS[case]()
