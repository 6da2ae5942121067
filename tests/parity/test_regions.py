"""Regions that are erased, beside what other libraries erase. All seeds are fixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

from parity.peers import ALPHA, same_distribution, same_proportion
from parity.recorded import recorded
from parity.variant_inputs import (
    CELLS,
    GRID_RATE,
    PICTURE,
    RECTANGLE,
    REGION_RATE,
    boxes,
)

pytestmark = pytest.mark.slow

KEY = jax.random.key(72)
IMAGES = jnp.ones((4096, *PICTURE, 1))


def erased(name, rate, **options):
    """True where an image of ones is 0."""
    keys = jax.random.split(KEY, len(IMAGES))
    return np.asarray(draw(name, keys, IMAGES, rate, **options))[..., 0] == 0


def check_same_boxes(ours, theirs):
    """One rate, and of the boxes one distribution of each side and of each corner."""
    there, others = ours[:, 0] > 0, theirs[:, 0] > 0
    assert same_proportion(there, (others.sum(), others.size)) > ALPHA
    for axis in range(4):
        assert same_distribution(ours[there, axis], theirs[others, axis]) > ALPHA, axis


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_random_erasing(library):
    """Squares, with other aspects theirs are log-uniform and ours are as published."""
    ours = boxes(erased("random_erasing", REGION_RATE, aspect=1.0))
    check_same_boxes(ours, recorded("regions", "random_erasing")[library])


@pytest.mark.parametrize("name", RECTANGLE)
def test_erase(name):
    """Albumentations' CoarseDropout with one hole, and XYMasking with one stripe."""
    sides = RECTANGLE[name]
    height, width = np.divide(sides, PICTURE)
    ours = boxes(erased("erase", REGION_RATE, height=float(height), width=float(width)))
    theirs = recorded("regions", f"erase {name}")["albumentations"]
    for found in (ours, theirs):
        assert set(map(tuple, found[:, :2])) == {(0, 0), sides}
    check_same_boxes(ours, theirs)


def test_grid_mask():
    """Albumentations' GridDropout erases one of the grids that ours moves: of the 16
    offsets one gives its pixels, in the others it is rolled."""
    theirs = recorded("regions", "grid_mask")
    cell = PICTURE[0] // CELLS[0]
    options = {"shortest": cell, "longest": cell, "ratio": 0.5}
    ours = erased("grid_mask", GRID_RATE, **options)
    there = ours.any((1, 2))
    assert same_proportion(there, theirs["dropped"]) > ALPHA
    offsets = [(down, right) for down in range(cell) for right in range(cell)]
    grids = [np.roll(theirs["hole"], by, (0, 1)).tobytes() for by in offsets]
    counts = dict.fromkeys(grids, 0)
    for image in ours[there]:
        counts[image.tobytes()] += 1
    expected = there.sum() / 16
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(counts) == 16 and chi_squared < 44.3  # p = 1e-4 at 15 degrees
