"""Images that are read while they are predicted, against the same in memory."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.predictions import held_out, predict_part, prepare_inference
from evaluation.streamed_images import StreamedImages, chunks_of
from training.data.mapped import Rows
from training.data.splits import RecordSplit


class Counted(Rows):
    """Rows that note how many are asked for at a time."""

    asked = []

    def __getitems__(self, rows):
        self.asked.append(len(rows))
        return super().__getitems__(rows)


@pytest.fixture(scope="module")
def streamed(run):
    """The run with its test images read from records, none of them kept in memory."""
    test = held_out(run, "test", 0)
    records = Counted(test.images, test.labels)
    split = RecordSplit(records, test.images.shape[1:], 3)
    data = replace(run.experiment.data, test=split)
    config = replace(run.experiment.config, in_memory_bytes=0)
    return run._replace(experiment=run.experiment._replace(data=data, config=config))


def test_streamed_images_get_the_same_predictions(run, streamed):
    part, expected = held_out(streamed, "test", 29), held_out(run, "test", 29)
    assert isinstance(part.images, StreamedImages) and len(part.images) == 29
    assert part.labels.tolist() == expected.labels.tolist()
    assert part.images.dtype == expected.images.dtype
    np.testing.assert_array_equal(part.images[7], expected.images[7])
    np.testing.assert_array_equal(part.first(3).images, expected.images[:3])
    predict = prepare_inference(run, "mc", 2, most=8)
    Counted.asked.clear()
    found = predict_part(streamed, predict, part)
    np.testing.assert_array_equal(found, predict_part(run, predict, expected))
    assert max(Counted.asked) <= 8 and sum(Counted.asked) == 32


def test_what_fits_is_read_at_once(streamed):
    bytes_of_nine = 9 * int(np.prod(streamed.experiment.data.test.image_shape))
    config = replace(streamed.experiment.config, in_memory_bytes=bytes_of_nine)
    allowed = streamed._replace(experiment=streamed.experiment._replace(config=config))
    assert isinstance(held_out(allowed, "test", 9).images, np.ndarray)
    assert isinstance(held_out(allowed, "test", 10).images, StreamedImages)


def test_chunks_hold_every_image_once(streamed):
    images = held_out(streamed, "test", 0).images
    chunks = list(chunks_of(images, 7))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(chunks), images[:])
