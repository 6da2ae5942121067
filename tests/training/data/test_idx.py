"""idx files: bytes written by hand are read, and what is damaged is named."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from training.data.idx import STEMS, read_idx, read_idx_directory
from training.data.npz import read_npz

# Two images of 2 x 3 pixels, and their labels.
IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(244, 256)])
LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 1])


def write(directory):
    for stem, content in zip(STEMS, (IMAGES, LABELS, IMAGES, LABELS)):
        (directory / stem).write_bytes(content)


def test_bytes_by_hand_are_read(tmp_path):
    write(tmp_path)
    found = read_idx_directory(tmp_path)
    assert found["train_images"].tolist() == [
        [[[244], [245], [246]], [[247], [248], [249]]],
        [[[250], [251], [252]], [[253], [254], [255]]],
    ]
    assert found["test_labels"].tolist() == [7, 1]


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(LABELS))
    assert read_idx(path).tolist() == [7, 1]


@pytest.mark.parametrize(
    "content",
    [b"", LABELS[:3], LABELS[:-1], LABELS + b"\0", b"\0\0\x0d" + LABELS[3:], b"\1" * 9],
)
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="labels.*expected an idx file"):
        read_idx(path)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(LABELS)[:-9])
    with pytest.raises(ValueError, match="labels.gz.*expected an idx file"):
        read_idx(path)


def test_the_script_writes_what_training_reads(tmp_path):
    write(tmp_path)
    out = tmp_path / "out" / "small.npz"
    command = [sys.executable, "scripts/convert_idx.py", str(tmp_path)]
    done = subprocess.run(
        [*command, f"--out={out}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    train, test = read_npz(out)
    np.testing.assert_array_equal(train.labels, [7, 1])
    assert train.image_shape == test.image_shape == (2, 3, 1)
    (tmp_path / STEMS[3]).unlink()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"has no {STEMS[3]}: expected the four files" in done.stderr
