"""The gallery has a picture of every variant, and its files are there."""

import subprocess
import sys

from paths import ROOT

# In a process of its own: scripts define flags, and two may share a name.
PICTURES = """
import jax
from scripts import gallery
for entry in gallery.VARIANTS.values():
    shape = jax.eval_shape(lambda rate: gallery.picture(entry, rate), 0.3).shape
    assert len(shape) == 2 and shape[0] == shape[1], (entry.name, shape)
drawn = [entry.name for _, line in gallery.layout() for entry in line]
assert drawn == list(gallery.VARIANTS), drawn
titles = [title for title, _ in gallery.layout() if title]
assert titles == list(gallery.FAMILIES.values()), titles
"""


def test_every_variant_has_a_picture_in_its_family():
    command = [sys.executable, "-c", PICTURES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pictures_are_small_enough_for_a_page():
    for name in ("variants", "schedules"):
        path = ROOT / "docs" / "images" / f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size < 2**20
