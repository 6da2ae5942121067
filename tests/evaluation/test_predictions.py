"""Predictions as data: in Python, in tables, and of images in files."""

from functools import partial

import numpy as np
import polars as pl
import pytest
from PIL import Image

from evaluation.image_files import image_names, read_images
from evaluation.prediction_table import (
    PredictionRequest,
    check_file,
    part_of,
    predict_workdirs,
    rows_of,
    write_predictions,
)
from evaluation.predictions import held_out
from evaluation.predictor import load, load_member


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """Five of the run's test images as PNG files, two of them in a folder within."""
    path = tmp_path_factory.mktemp("folder")
    (path / "more").mkdir()
    for number, image in enumerate(held_out(run, "test", 5).images):
        name = f"{'more/' if number > 2 else ''}{number}.PNG"
        Image.fromarray(image[..., 0]).save(path / name)
    (path / "notes.txt").write_text("no image")
    return path


@pytest.mark.slow
def test_a_folder_and_an_array_in_any_order_get_the_same_predictions(
    finished, run, folder
):
    sources = ["test", str(folder)]
    request = PredictionRequest(["mc"], 3, 5, sources, [])
    table = predict_workdirs([str(finished[0])], request, "", "")
    assert table["split"].to_list() == [s for s in sources for _ in range(5)]
    assert table["id"].to_list() == 2 * list(range(5))
    own, files = table[:5], table[5:]
    test = held_out(run, "test", 5)
    assert own["label"].to_list() == test.labels.tolist()
    assert files["label"].null_count() == own["image_file"].null_count() == 5
    names = ["0.PNG", "1.PNG", "2.PNG", "more/3.PNG", "more/4.PNG"]
    assert files["image_file"].to_list() == names
    predict = load(str(finished[0]))
    array = predict(test.images, samples=3)
    columns = [f"probability_{label}" for label in range(3)]
    found = files.select(columns).to_numpy()
    np.testing.assert_allclose(found, array.probabilities, rtol=0, atol=1e-6)
    # The masks of a split are not those of images that are no split.
    assert np.abs(own.select(columns).to_numpy() - found).max() > 1e-3
    # Masks follow the id: the order of a batch is of no account.
    order = np.array([3, 0, 4, 2, 1])
    again = predict(test.images[order], order, samples=3)
    np.testing.assert_allclose(again.samples, array.samples[:, order], atol=1e-5)


def test_the_columns_are_the_textbook_measures(run):
    random = np.random.default_rng(1)
    p = random.dirichlet([1, 1, 1], (4, 5))
    part = held_out(run, "test", 5)._replace(labels=np.array([0, 1, -1, 2, 0]))
    table = pl.DataFrame(rows_of(part, np.log(p).astype(np.float32)))
    mean = p.mean(0)
    total = -(mean * np.log(mean)).sum(-1)
    within = -(p * np.log(p)).sum(-1).mean(0)
    np.testing.assert_allclose(table["entropy"], total, rtol=1e-5)
    np.testing.assert_allclose(
        table["mutual_information"], total - within, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(table[:, -3:].to_numpy(), mean, rtol=1e-5)
    assert table["label"].to_list() == [0, 1, None, 2, 0]


READERS = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".npz": lambda path: dict(np.load(path, allow_pickle=False)),
}


@pytest.mark.parametrize("suffix", READERS)
def test_every_format_keeps_the_values(run, suffix, tmp_path):
    samples = np.log(np.random.default_rng(2).dirichlet([1, 1, 1], (2, 5)))
    part = held_out(run, "test", 5)._replace(labels=np.array([0, 1, -1, 2, 0]))
    table = pl.DataFrame(rows_of(part, samples.astype(np.float32)))
    path = tmp_path / f"predictions{suffix}"
    check_file(str(path))
    write_predictions(path, table)
    found = READERS[suffix](path)
    if suffix != ".npz":
        assert found.columns == table.columns
        assert found["label"].to_list() == [0, 1, None, 2, 0]
        np.testing.assert_array_equal(found[:, -3:], table[:, -3:])
        return
    assert found["label"].tolist() == [0, 1, -1, 2, 0]
    assert found["image_file"].tolist() == 5 * [""]
    np.testing.assert_array_equal(found["probabilities"], table[:, -3:].to_numpy())
    np.testing.assert_array_equal(found["entropy"], table["entropy"])


def test_pictures_of_any_form_take_that_of_the_run(tmp_path):
    Image.new("RGB", (60, 20), (255, 0, 0)).save(tmp_path / "red.jpeg", quality=100)
    wide = Image.new("L", (8, 4))
    wide.paste(255, (4, 0, 8, 4))
    exif = wide.getexif()
    exif[0x0112] = 6  # The camera was held upright: to be turned by 90 degrees.
    wide.save(tmp_path / "turned.png", exif=exif)
    names = image_names(str(tmp_path))
    red, turned = read_images(str(tmp_path), names, (8, 4, 3))
    np.testing.assert_allclose(red, np.broadcast_to([255, 0, 0], (8, 4, 3)), atol=3)
    assert (turned[:4] == 0).all() and (turned[4:] == 255).all()
    assert read_images(str(tmp_path), names, (9, 5, 1)).shape == (2, 9, 5, 1)


def test_what_cannot_be_predicted_is_refused_in_one_line(run, finished, tmp_path):
    workdir = str(finished[0])
    for name in ("deep", "cut"):
        (tmp_path / name).mkdir()
    Image.new("I;16", (4, 4)).save(tmp_path / "deep" / "deep.png")
    (tmp_path / "cut" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty").mkdir()
    images = np.zeros((2, 10, 10, 1), np.uint8)
    refused = {
        r"--predictions=a\.txt: expected a file": partial(check_file, "a.txt"),
        r"is no directory": partial(check_file, f"{tmp_path}/none/a.csv"),
        r"trained with --validation_examples": partial(part_of, run, "validation", 0),
        r"deep\.png \(pixels of type I;16\)": partial(
            part_of, run, f"{tmp_path}/deep", 0
        ),
        r"cut\.png; expected a PNG": partial(part_of, run, f"{tmp_path}/cut", 0),
        r"no file that ends in \.png": partial(part_of, run, f"{tmp_path}/empty", 0),
        r"member 1 of .*from 0 to 0": partial(load_member, workdir, 1),
        r"--rule=mcmc: expected one of": partial(load, workdir, "mcmc"),
        r"\(2, 9, 10, 1\); expected \(n, 10, 10, 1\)": lambda: load(workdir)(
            images[:, 1:]
        ),
        r"is float32, and the run's": lambda: load(workdir)(images.astype(np.float32)),
        r"n of at least 1": lambda: load(workdir)(images[:0]),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
