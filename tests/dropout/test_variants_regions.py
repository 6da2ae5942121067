"""Cutout and random erasing: one rectangle, of the right size, as often as nominal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

from dropout.variants.regions import erased_sides, random_erasing_mean, rectangles

KEY = jax.random.key(34)
IMAGES = jnp.ones((4096, 32, 24, 2))


def boxes(y):
    """Heights and widths of the erased regions, which are shown to be rectangles."""
    hole = np.asarray(y[..., 0] == 0)
    rows, columns = hole.any(2), hole.any(1)
    np.testing.assert_array_equal(hole, rows[:, :, None] & columns[:, None])
    for marks in (rows, columns):
        edges = np.abs(np.diff(np.pad(marks, ((0, 0), (1, 1))).astype(int), axis=1))
        assert (edges.sum(1) <= 2).all()
    return rows.sum(1), columns.sum(1)


@pytest.mark.parametrize("length", [16, 5])
def test_cutout(length):
    """Squares of the right size where they fit; their area on average as the formula of
    their clipping says, within 5 standard errors."""
    heights, widths = boxes(draw("cutout", KEY, IMAGES, 1.0, length=length))
    for sides, size in ((heights, 32), (widths, 24)):
        assert sides.max() == length and sides.min() >= length // 2
        centre = np.arange(size)
        low = np.maximum(centre - length // 2, 0)
        clipped = np.minimum(centre - length // 2 + length, size) - low
        error = clipped.std() / np.sqrt(len(sides))
        assert abs(sides.mean() - clipped.mean()) < 5 * error
    if length == 16:
        expected = np.mean([min(c + 8, 32) - max(c - 8, 0) for c in range(32)])
        assert expected == 14.0


def test_random_erasing():
    """Rectangles as in the table, erased with the nominal probability, where the top
    is uniform among those that fit; within 5 standard errors."""
    rate, y = 0.8, draw("random_erasing", KEY, IMAGES, 0.8)
    heights, widths = boxes(y)
    erased = heights > 0
    error = np.sqrt(rate * (1 - rate) / len(erased))
    assert abs(erased.mean() - rate) < 5 * error
    sides = rectangles(32, 24, 0.02, 0.4, 0.3)
    found = set(zip(heights[erased], widths[erased], strict=True))
    assert found <= set(map(tuple, sides))
    area = (heights * widths)[erased] / (32 * 24)
    assert area.min() > 0.015 and area.max() < 0.42
    wanted = sides.prod(1) / (32 * 24)
    assert abs(area.mean() - wanted.mean()) < 5 * wanted.std() / np.sqrt(erased.sum())
    top = np.asarray(y[..., 0] == 0).any(2).argmax(1)[erased]
    position = (top + 0.5) / (32 - heights[erased] + 1)
    assert abs(position.mean() - 0.5) < 5 / np.sqrt(12 * erased.sum())


def test_the_mean_of_random_erasing_is_the_product_of_two_trapezoids():
    """A square of 2 x 2 in 4 x 6 pixels, at one of 3 x 5 corners; rate 0.5."""
    y = random_erasing_mean(
        -jnp.ones((1, 4, 6, 2)), 0.5, smallest=1 / 6, largest=1 / 6, aspect=1.0
    )
    rows, columns = np.divide([1, 2, 2, 1], 3), np.divide([1, 2, 2, 2, 2, 1], 5)
    expected = 0.5 * np.outer(rows, columns)[None, :, :, None] - 1
    np.testing.assert_allclose(y, np.repeat(expected, 2, -1), rtol=1e-6)


def test_random_erasing_can_fill_with_noise():
    y = draw("random_erasing", KEY, jnp.full((512, 16, 16, 3), 9.0), 1.0, fill="noise")
    noise = np.asarray(y)[np.asarray(y) != 9.0]
    assert abs(noise.mean()) < 5 / np.sqrt(len(noise))
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * len(noise))


def test_options_that_make_no_sense_are_errors():
    with pytest.raises(ValueError, match="smallest=0.5"):
        draw("random_erasing", KEY, IMAGES, 0.5, smallest=0.5)
    with pytest.raises(ValueError, match="no rectangle fits 1x24"):
        draw("random_erasing", KEY, IMAGES[:, :1], 0.5)
    with pytest.raises(ValueError, match="length=0"):
        draw("cutout", KEY, IMAGES, 0.5, length=0)


def test_the_sides_of_a_rectangle_are_rounded_and_at_least_one_pixel():
    assert erased_sides((4, 32, 24, 2), 1 / 3, 0.25) == (11, 6)
    assert erased_sides((4, 32, 24, 2), 0.01, 1.0) == (1, 24)
    assert erased_sides((4, 32, 24, 2), 1.0, 0.01) == (32, 1)
    for height, width in ((1.1, 0.5), (0.5, 0.0), (0.5, 1.1)):
        with pytest.raises(ValueError, match="expected shares in"):
            erased_sides((4, 32, 24, 2), height, width)


def test_erase():
    """A rectangle of 11 x 6 of the 32 x 24 pixels whenever there is one; it covers a
    pixel with the product of two trapezoids, counted corner by corner; |z| < 5.3."""
    rate, y = 0.6, draw("erase", KEY, IMAGES, 0.6, width=0.25)
    heights, widths = boxes(y)
    assert set(zip(heights.tolist(), widths.tolist(), strict=True)) == {(0, 0), (11, 6)}
    erased = np.asarray(y[..., 0] == 0)
    covered = np.zeros((32, 24))
    for top in range(22):
        for left in range(19):
            covered[top : top + 11, left : left + 6] += rate / (22 * 19)
    deviation = np.sqrt(covered * (1 - covered) / len(erased))
    assert np.abs((erased.mean(0) - covered) / deviation).max() < 5.3
    share = (heights > 0).mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / len(erased))
    with pytest.raises(ValueError, match="height=0.0"):
        draw("erase", KEY, IMAGES, 0.5, height=0.0)
