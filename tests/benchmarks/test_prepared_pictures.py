"""The data set of JPEGs that the benchmark of the loader makes."""

import pytest

from benchmarks.prepared_pictures import Pictures, prepare_pictures
from training.data.crops import decode, resized_crop
from training.data.prepared import open_prepared

WANTED = Pictures(train=7, validation=2, smallest=20, largest=40)


def stored(path, name, **changes):
    prepare_pictures(path / name / "1.0.0", WANTED._replace(**changes))
    splits = ("train", "validation")
    prepared = open_prepared(name, str(path), splits, resized_crop(size=8))
    assert prepared.classes == 10 and (prepared.train.size, prepared.test.size) == (
        7,
        2,
    )
    return prepared.train.records.__getitems__(range(7))


@pytest.mark.slow
def test_pictures_have_many_sizes_and_follow_their_seed(tmp_path):
    first, again, other = (
        stored(tmp_path, name, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert all(one != two for one, two in zip(first, other))
    shapes = {decode(each["image"], 3, None, None).shape for each in first}
    assert len(shapes) > 5
    assert all(20 <= side <= 40 for shape in shapes for side in shape[:2])
    assert len({each["label"] for each in first + other}) > 3


def test_pictures_that_cannot_be_made_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sides of 20 to 9000 pixels: expected 1 <="):
        prepare_pictures(tmp_path / "x" / "1.0.0", WANTED._replace(largest=9000))
    with pytest.raises(ValueError, match="exists; expected a new folder"):
        prepare_pictures(tmp_path, WANTED)
