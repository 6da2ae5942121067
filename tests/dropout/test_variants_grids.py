"""Grid mask, against the definition of its grid written down once more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import draw

KEY = jax.random.key(36)
ROWS = 32768
IMAGES = -jnp.ones((ROWS, 13, 9, 2))


def erased(name, rate, **options):
    """Which pixels are erased, which is shown to be alike in all channels."""
    y = np.asarray(draw(name, KEY, IMAGES, rate, **options))
    zero = y == 0
    assert (zero == zero[..., :1]).all() and (y[~zero] == -1).all()
    return zero[..., 0]


def z_score(samples, expected):
    """The largest deviation of a mean over rows, in standard errors."""
    deviation = np.sqrt(expected * (1 - expected) / len(samples))
    return np.abs((samples.mean(0) - expected) / deviation).max()


def grids(period, bar, drop):
    """All grids of a period: a set of arrays, one for each pair of offsets."""
    found = set()
    for a in range(period):
        for b in range(period):
            rows = [[(i - a) % period < bar] for i in range(13)]
            columns = [(j - b) % period < bar for j in range(9)]
            bars = np.asarray(rows) | np.asarray(columns)
            found.add((bars if drop == "bars" else ~bars).tobytes())
    return found


@pytest.mark.parametrize("drop", ["squares", "bars"])
def test_grid_mask_is_a_grid_of_each_period(drop):
    """The zeros are those of a grid of period 4, 5 or 6, whose bars of ratio 0.3 are 2
    wide, and all periods occur; below, a third of the images each."""
    zero = erased("grid_mask", 1.0, shortest=4, longest=6, ratio=0.3, drop=drop)
    counts = dict.fromkeys((4, 5, 6), 0)
    by_period = {period: grids(period, 2, drop) for period in counts}
    for image in zero:
        fits = [p for p, allowed in by_period.items() if image.tobytes() in allowed]
        assert len(fits) == 1
        counts[fits[0]] += 1
    shares = np.asarray(list(counts.values())) / ROWS
    assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / ROWS)


@pytest.mark.parametrize("rate", [0.4, 1.0])
@pytest.mark.parametrize("drop", ["squares", "bars"])
def test_grid_mask_erases_each_pixel_alike(drop, rate):
    """With E[(1 - l / d)^2] = (1/4 + 9/25 + 4/9) / 3, borders included; |z| < 5.3."""
    squares = (1 / 4 + 9 / 25 + 4 / 9) / 3
    expected = rate * (squares if drop == "squares" else 1 - squares)
    zero = erased("grid_mask", rate, shortest=4, longest=6, ratio=0.3, drop=drop)
    assert z_score(zero, expected) < 5.3


def test_options_of_a_grid_that_make_no_sense_are_errors():
    for options in ({"shortest": 0}, {"shortest": 20}, {"ratio": 1.5}):
        with pytest.raises(ValueError, match="grid_mask.*expected 1 <= shortest"):
            draw("grid_mask", KEY, IMAGES, 0.5, **options)


def test_hide_and_seek_hides_whole_cells_independently():
    """With one size each cell of 3 x 3 has one value, cut at the border; a cell is
    hidden with the nominal rate (|z| < 5.3), and neighbours do not correlate."""
    rate = 0.3
    zero = erased("hide_and_seek", rate, sizes=(3,))
    cells = zero[:, ::3, ::3]
    assert cells.shape == (ROWS, 5, 3)
    whole = cells.repeat(3, axis=1).repeat(3, axis=2)[:, :13, :9]
    np.testing.assert_array_equal(zero, whole)
    assert z_score(cells, rate) < 5.3
    centred = (cells - rate) / np.sqrt(rate * (1 - rate))
    for pair in (
        centred[:, :-1] * centred[:, 1:],
        centred[:, :, :-1] * centred[:, :, 1:],
    ):
        assert abs(pair.mean()) * np.sqrt(pair.size) < 5


def test_hide_and_seek_draws_a_size_for_each_image():
    """At rate 0.5 and sizes 0 and 9 an image is whole, or its two cells are hidden
    independently: 0 pixels with probability 5/8, all with 1/8; |z| < 5."""
    hidden = erased("hide_and_seek", 0.5, sizes=(0, 9)).sum((1, 2))
    for pixels, chance in ((0, 5 / 8), (13 * 9, 1 / 8), (81, 1 / 8), (36, 1 / 8)):
        deviation = np.sqrt(chance * (1 - chance) / ROWS)
        assert abs((hidden == pixels).mean() - chance) < 5 * deviation
    with pytest.raises(ValueError, match=r"sizes=\(\)"):
        draw("hide_and_seek", KEY, IMAGES, 0.5, sizes=())
