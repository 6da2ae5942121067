"""The gallery has a picture of every variant, and its files are there."""

from functools import partial

import jax
import pytest
from paths import ROOT

from dropout import VARIANTS
from pages.families import FAMILIES
from pages.figures import layout
from pages.pictures import picture


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_a_square_picture(name):
    shape = jax.eval_shape(partial(picture, VARIANTS[name]), 0.3).shape
    assert len(shape) == 2 and shape[0] == shape[1]


def test_every_variant_is_plotted_once_in_its_family():
    lines = list(layout())
    assert [entry.name for _, line in lines for entry in line] == list(VARIANTS)
    assert [title for title, _ in lines if title] == list(FAMILIES.values())


def test_pictures_are_small_enough_for_a_page():
    for name in ("variants", "schedules", "strip", "convolution", "augmentations"):
        path = ROOT / "docs" / "images" / f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size < 2**20
