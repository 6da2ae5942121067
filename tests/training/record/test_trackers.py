"""Trackers: what they are told, and that a run does not depend on them."""

import contextlib
import errno
import json
import sys
from dataclasses import replace

import pytest
from small_run import train
from tensorboardX.proto.event_pb2 import Event
from test_whole_runs import events_of

from training.canonical import canonical
from training.record.metrics_log import read_metrics
from training.record.trackers import (
    TRACKERS,
    Tracker,
    open_trackers,
    parse_trackers,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tensorboard", "tensorboard"),
        (" wandb,tensorboard,wandb", "wandb,tensorboard"),
        ("none", "none"),
        ("", "none"),
    ],
)
def test_names_of_trackers_have_a_canonical_text(small, text, expected):
    assert canonical(replace(small, tracker=text)).tracker == expected


@pytest.mark.parametrize("text", ["wandb,tensorbord", "none,mlflow"])
def test_an_unknown_tracker_is_refused(text):
    with pytest.raises(
        ValueError, match=r"unknown tracker '(tensorbord|none)'.*mlflow"
    ):
        parse_trackers(text)


@contextlib.contextmanager
def open_flaky(workdir, start, settings):
    """A tracker that is told to `settings`, and fails at the steps named there."""
    told = settings["told"]

    def add_scalars(split, values, step):
        if step in settings["fails"]:
            raise settings["fails"][step]
        told.append((split, step))

    yield Tracker(add_scalars, lambda path, step: told.append((path, step)))
    told.append("closed")


@contextlib.contextmanager
def open_never(workdir, start, settings):
    raise RuntimeError("no network\nat all")
    yield


@pytest.fixture
def flaky(monkeypatch):
    for name, function in (("flaky", "open_flaky"), ("never", "open_never")):
        monkeypatch.setitem(TRACKERS, name, (__name__, function))


def test_a_tracker_that_fails_is_left_out_after_one_line(flaky, tmp_path, capsys):
    told = []
    settings = {"told": told, "fails": {2: ValueError("refused")}}
    with open_trackers(("never", "flaky"), tmp_path, 0, settings) as tracker:
        for step in (1, 2, 3):
            tracker.add_scalars("train", {"loss": 1.0}, step)
    assert told == [("train", 1)]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "--tracker=never is left out from here on (RuntimeError: no network at all).",
        "--tracker=flaky is left out from here on (ValueError: refused).",
    ]


def test_a_tracker_that_works_is_told_all_and_closed(flaky, tmp_path):
    told = []
    settings = {"told": told, "fails": {}}
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_trackers(("flaky",), tmp_path, 0, settings) as tracker,
    ):
        tracker.add_scalars("test", {"loss": 1.0}, 4)
        tracker.add_picture(tmp_path, 4)
        raise KeyboardInterrupt
    assert told == [("test", 4), (tmp_path, 4), "closed"]


def test_a_full_disk_is_no_fault_of_a_tracker(flaky, tmp_path):
    settings = {
        "told": [],
        "fails": {1: OSError(errno.ENOSPC, "No space left on device")},
    }
    with (
        pytest.raises(OSError, match="No space left"),
        open_trackers(("flaky",), tmp_path, 0, settings) as tracker,
    ):
        tracker.add_scalars("train", {"loss": 1.0}, 1)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_client_that_is_not_installed_is_a_warning(
    monkeypatch, tmp_path, capsys, name
):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, TRACKERS[name][0], raising=False)
    with open_trackers((name,), tmp_path, 0, {}) as tracker:
        tracker.add_scalars("train", {"loss": 1.0}, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--tracker={name} is left out") and "[trackers]" in line


def test_tensorboard_has_the_configuration_and_the_curves(finished):
    (path,) = (finished[0] / "tensorboard" / "run").iterdir()
    _, _, flags, *_, curves = events_of(path)
    assert isinstance(flags, Event) and flags.step == 0 and curves.step == 16
    (text,) = flags.summary.value[0].tensor.string_val
    assert (
        "    --"
        + "\n    --".join(
            (finished[0] / "run.flags").read_text().replace("--", "").splitlines()
        )
        in text.decode()
    )
    image = curves.summary.value[0].image
    picture = (finished[0] / "curves.png").read_bytes()
    assert image.encoded_image_string == picture and image.width > image.height > 100


@pytest.mark.slow
def test_without_trackers_there_is_the_record_alone(small, tmp_path):
    train(replace(small, tracker="none"), tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert len(read_metrics(tmp_path)) == 8


@pytest.mark.slow
def test_wandb_keeps_an_offline_run(small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(replace(small, tracker="wandb"), tmp_path)
    (directory,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = directory.glob("run-*.wandb")
    content = log.read_bytes()
    for text in (
        b"train/loss",
        b"test/accuracy",
        b"rate/fc",
        b"learning_rate",
        b"step",
    ):
        assert text in content
    (picture,) = (directory / "files" / "media" / "images").glob("curves_*.png")
    assert picture.read_bytes() == (tmp_path / "curves.png").read_bytes()
    assert "left out" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_a_run_in_the_workdir(small, tmp_path, monkeypatch, capsys):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(replace(small, tracker="mlflow"), tmp_path)
    assert "left out" not in capsys.readouterr().err
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run((tmp_path / "mlflow-id").read_text())
    assert run.info.status == "FINISHED"
    flags = (tmp_path / "run.flags").read_text().splitlines()
    expected = dict(line.removeprefix("--").split("=", 1) for line in flags)
    assert run.data.params == expected
    for line in read_metrics(tmp_path):
        history = client.get_metric_history(run.info.run_id, f"{line['split']}/loss")
        assert {each.step: each.value for each in history}[line["step"]] == line["loss"]
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == [
        "curves.png"
    ]
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 16
