"""Files of torchvision's and timm's weights give their logits here."""

import numpy as np
import pytest

from parity.peers import peer
from parity.recorded import recorded
from parity.weight_cases import IMAGES, RECORDED, assert_close, loaded, logits, values


def write(path, arrays):
    peer("safetensors.numpy").save_file(
        {name: np.atleast_1d(array) for name, array in arrays.items()}, path
    )


def case(text):
    """The arrays of a recorded case by their names."""
    found = recorded("weights", text)
    names, shapes = found["names"].tolist(), found["shapes"].tolist()
    cut = [tuple(size for size in shape if size >= 0) for shape in shapes]
    return values(dict(zip(names, cut, strict=True)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=() if "vit" in text else pytest.mark.slow)
        for text in RECORDED
    ],
)
def test_logits_of_a_file_are_the_librarys(text, tmp_path):
    write(tmp_path / "there.safetensors", case(text))
    network = loaded(text, tmp_path / "there.safetensors")
    assert_close(logits(network, text), recorded("weights", text)["logits"])


@pytest.mark.parity
@pytest.mark.parametrize("text", IMAGES)
def test_logits_of_a_file_that_the_library_wrote(text, tmp_path):
    peer("torch")
    from parity import torch_weights

    made, path = torch_weights.network(text), tmp_path / "there.safetensors"
    peer("safetensors.torch").save_file(made.state_dict(), path)
    found = logits(loaded(text, path), text)
    assert_close(found, torch_weights.logits(made, text))
    if text in RECORDED:
        expected = recorded("weights", text)
        assert made.state_dict().keys() == set(expected["names"].tolist())
        assert_close(found, expected["logits"])
