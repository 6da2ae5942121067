"""Prepared data sets of corrupted images as test sets of a finished run."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_data import example, feature, prepare, write_records

from evaluation.corrupted_sets import corrupted_part, find_sets, score_sets, set_lines
from evaluation.predictions import Part, held_out, predict_part, prepare_inference
from evaluation.scores import score


@pytest.fixture(scope="module")
def prepared(run, tmp_path_factory):
    """A run whose test images, in reverse order, are prepared under two names."""
    path = tmp_path_factory.mktemp("sets")
    test = held_out(run, "test", 0)
    shape = {"dtype": "uint8", "shape": {"dimensions": ["10", "10", "1"]}}
    for name, classes, images in (
        ("made_worse/fog_1", "3", test.images[::-1]),
        ("made_worse/snow_1", "3", 255 - test.images[::-1]),
        ("many_classes", "4", test.images),
    ):
        folder = prepare(
            path,
            name,
            image=feature("image_feature.Image", image=shape),
            label=feature(
                "class_label_feature.ClassLabel", classLabel={"numClasses": classes}
            ),
        )
        records = [
            example(image[..., 0], int(label))
            for image, label in zip(images, test.labels[::-1])
        ]
        write_records(folder, name.partition("/")[0], "test", records[:10])
    config = replace(run.experiment.config, data_dir=str(path))
    return run._replace(experiment=run.experiment._replace(config=config))


def test_a_prepared_set_is_scored_as_test_images_are(prepared):
    names = find_sets(prepared, ("made_worse/*",))
    assert names == ["made_worse/fog_1", "made_worse/snow_1"]
    predict = prepare_inference(prepared, "scaling", 1)
    found = score_sets(prepared, predict, names, 8)
    test = held_out(prepared, "test", 0)
    images, labels = test.images[::-1][:8], test.labels[::-1][:8]
    part = Part("test", images, labels, np.arange(8, dtype=np.int32))
    expected = score(predict_part(prepared, predict, part), labels)
    first, second = (found[name] for name in names)
    assert {name: expected[name] for name in first} == pytest.approx(first)
    assert first != second
    lines = set_lines({"scaling": found})
    mean = (first["accuracy"] + second["accuracy"]) / 2
    (line,) = [each for each in lines if "mean of 2 sets: accuracy" in each]
    assert line.split()[-1] == f"{mean:.5f}"
    assert set_lines({"scaling": {}}) == []


def test_a_set_that_is_not_prepared_or_does_not_fit_is_refused(prepared):
    with pytest.raises(ValueError, match="made_wors.*not prepared; did you mean 'made"):
        find_sets(prepared, ("made_worse/fog_2",))
    with pytest.raises(ValueError, match="of 4 classes; expected the run's"):
        corrupted_part(prepared, "many_classes", 0)
    assert find_sets(prepared, ()) == []
