"""Records that are lost, cut short, of other data, or hold links: exact or refused."""

import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from small_run import train

from training.record.files import Damaged, replacing, write_atomically
from training.record.metrics_log import append_line, read_finished
from training.restore import restore
from training.runtime.checkpoints import locked


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of the finished run as if it had died before its summary."""
    workdir = tmp_path / "unfinished"
    shutil.copytree(finished[0], workdir)
    (workdir / "summary.json").unlink()
    return workdir


def contents(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 0, 100], ids=["lost", "empty", "cut"])
def test_a_metrics_file_that_is_lost_or_short_comes_back(
    finished, unfinished, small, size
):
    path = unfinished / "metrics.jsonl"
    path.unlink() if size is None else os.truncate(path, size)
    summary = train(small, unfinished)
    assert path.read_text() == (finished[0] / "metrics.jsonl").read_text()
    for name in ("params_digest", "metrics_digest", "data_digest"):
        assert summary[name] == finished[1][name]


@pytest.mark.slow
def test_a_checkpoint_answers_for_its_metrics_too(unfinished, small, capfd):
    saved = unfinished / "checkpoints" / "16" / "record"
    (record,) = [p for p in saved.iterdir() if b"position" in p.read_bytes()]
    text = record.read_text()
    assert '\\"step\\": 16' in text
    record.write_text(text.replace('\\"step\\": 16', '\\"step\\": 17'))
    train(small, unfinished)
    assert "checkpoint 16 is damaged" in capfd.readouterr().err


def test_a_run_does_not_go_on_with_other_data(unfinished, small, tmp_path):
    arrays = {**np.load(small.dataset)}
    changed = tmp_path / "changed.npz"
    images = arrays["train_images"].copy()
    images[5, 2, 3] ^= 1
    np.savez(changed, **{**arrays, "train_images": images})
    flags = unfinished / "run.flags"
    flags.write_text(flags.read_text().replace(small.dataset, str(changed)))
    before = contents(unfinished)
    with pytest.raises(ValueError, match="the data are not those with which"):
        train(replace(small, dataset=str(changed)), unfinished)
    with pytest.raises(ValueError, match="the data are not those with which"):
        restore(str(unfinished))
    assert contents(unfinished) == before


@pytest.mark.slow
def test_another_step_than_the_summarys_is_refused_and_nothing_changed(
    finished, tmp_path, small
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    files = [p for p in (workdir / "checkpoints/16").rglob("*") if p.is_file()]
    os.truncate(max(files, key=lambda path: path.stat().st_size), 10)
    before = contents(workdir)
    for _ in range(2):
        with pytest.raises(Damaged, match="step 12, and its summary is about step 16"):
            restore(str(workdir))
    assert contents(workdir) == before
    (workdir / "summary.json").unlink()  # As the message says.
    assert train(small, workdir)["params_digest"] == finished[1]["params_digest"]
    assert int(restore(str(workdir))[1].step) == 16


def test_writers_in_the_same_moment_leave_one_whole_file(tmp_path):
    path, errors = tmp_path / "study.json", []

    def write(text):
        try:
            for _ in range(200):
                write_atomically(path, text * 1000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_text() in {text * 1000 for text in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("before")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["lock", "curves.png", "plan.txt", "checkpoints/20", "tensorboard/train"]
)
def test_a_link_in_a_workdir_is_refused_and_not_followed(
    unfinished, small, tmp_path, name
):
    (tmp_path / "victim").write_text("precious")
    shutil.rmtree(unfinished / "tensorboard")
    link = unfinished / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match="is a symbolic link"):
        train(small, unfinished)
    assert (tmp_path / "victim").read_text() == "precious"


def test_no_file_is_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    workdir = tmp_path / "run"
    workdir.mkdir()
    for name in ("summary.json", "metrics.jsonl", "lock"):
        (workdir / name).symlink_to(victim)
    write_atomically(workdir / "summary.json", "{}")
    with pytest.raises(OSError):
        append_line(workdir, {"step": 1})
    with pytest.raises(OSError), locked(workdir):
        pass
    assert victim.read_text() == "precious"
    assert (workdir / "summary.json").read_text() == "{}"


def test_metrics_of_another_run_are_no_part_of_a_record(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    path = workdir / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(Damaged, match="is not the file that summary.json is about"):
        read_finished(workdir)
