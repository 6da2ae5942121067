"""Texts as data sets: windows of characters, each labelled with the next one."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from training.canonical import canonical
from training.config import Config
from training.data.sources import load
from training.data.text import ALICE, WINDOW
from training.experiment import prepare

PARAGRAPHS = ["It was,\nas  they say, late. " * 40, "So it was. " * 30]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "late.txt"
    path.write_text("\n\n\n".join(PARAGRAPHS))
    return path


def characters(split):
    """What is shown, as numbers of characters; an image holds one in each row."""
    images = np.asarray(split.images)
    assert set(np.unique(images)) == {0, 255}
    np.testing.assert_array_equal((images > 0).sum((2, 3)), 1)
    return images.argmax(2)[..., 0]


def test_windows_give_the_text_back_and_labels_are_one_character_ahead(path):
    loaded = load(str(path), "", "")
    text = "\n".join(" ".join(part.split()) for part in PARAGRAPHS)
    alphabet = np.array(sorted(set(text)))
    assert loaded.classes == len(alphabet)
    begin = 0
    for split in (loaded.train, loaded.test):
        shown, labels = characters(split), np.asarray(split.labels)
        assert shown.shape == labels.shape == (split.size, WINDOW)
        whole = text[begin : begin + shown.size + 1]
        assert "".join(alphabet[shown.reshape(-1)]) == whole[:-1]
        assert "".join(alphabet[labels.reshape(-1)]) == whole[1:]
        begin = round(0.9 * len(text))


def test_alice_is_embedded():
    loaded = load("alice", "", "")
    assert (loaded.train.size, loaded.test.size, loaded.classes) == (311, 34, 61)
    assert ALICE.read_text().startswith("CHAPTER I. Down the Rabbit-Hole\n\nAlice was")


def test_what_a_model_of_alice_is_compared_with():
    """The frequencies of characters, each counted once more; spaces are the most."""
    loaded = load("alice", "", "")
    train, test = (
        np.asarray(split.labels).reshape(-1) for split in (loaded.train, loaded.test)
    )
    counts = np.bincount(train, minlength=loaded.classes) + 1
    perplexity = np.exp(-np.log(counts / counts.sum())[test].mean())
    assert perplexity == pytest.approx(21.82, abs=0.01)
    assert (test == counts.argmax()).mean() == pytest.approx(0.190, abs=0.001)


def test_characters_are_not_standardised(tmp_path):
    experiment = prepare(
        canonical(Config("alice", model="char_rnn", dropout="none", mesh="data:1"))
    )
    images, _ = experiment.data.test.fetch(np.arange(2, dtype=np.int32))
    seen = experiment.objective.standardise(jnp.asarray(images))
    np.testing.assert_array_equal(seen, images > 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "mlp"}, r"outputs of shape \(\) .* shape \(64,\)"),
        ({"dataset": "digits"}, r"outputs of shape \(28,\) .* shape \(\)"),
        ({"augment": "flip"}, "--augment acts on images"),
    ],
)
def test_networks_of_images_and_texts_are_not_mixed_up(changes, says):
    config = Config("alice", model="char_rnn", dropout="none", mesh="data:1")
    with pytest.raises(ValueError, match=says):
        prepare(canonical(replace(config, **changes)))


def test_what_is_no_text_is_refused(tmp_path):
    for content, says in ((b"\xff\xfe", "UTF-8"), (b"short", "5 characters.*650")):
        (tmp_path / "wrong.txt").write_bytes(content)
        with pytest.raises(ValueError, match=says):
            load(str(tmp_path / "wrong.txt"), "", "")
    with pytest.raises(ValueError, match="no.txt.*No such file"):
        load(str(tmp_path / "no.txt"), "", "")
