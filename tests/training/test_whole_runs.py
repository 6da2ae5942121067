"""Whole runs: one compilation, exact resumption, and what the record holds."""

import json
import struct
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from small_run import train
from tensorboardX.proto.event_pb2 import Event, SessionLog

from training.canonical import canonical
from training.data.batches import batch_ids
from training.experiment import prepare
from training.flag_text import parse_flag_lines
from training.record.metrics_log import read_metrics
from training.restore import restore


def test_one_compilation_with_a_schedule_at_every_site(finished):
    assert finished[1]["compilations"] == 1


def test_the_record_is_readable_and_whole(finished):
    workdir, summary = finished
    assert json.loads((workdir / "summary.json").read_text()) == summary
    assert {"train_accuracy", "train_loss", "test_accuracy", "test_loss"} <= set(
        summary
    )
    assert summary["steps"] == 16 and summary["seconds"] > 0
    assert summary["images_per_second"] > 0 and summary["compile_seconds"] > 0
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == [4, 4, 8, 8, 12, 12, 16, 16]
    assert [line["split"] for line in lines] == ["train", "test"] * 4
    assert {path.name for path in workdir.iterdir()} >= {
        "run.flags", "plan.txt", "curves.png", "tensorboard", "checkpoints",
    }  # fmt: skip
    assert (workdir / "curves.png").stat().st_size > 5000
    assert "seconds" not in (workdir / "metrics.jsonl").read_text()


def events_of(path):
    """The events in a file: each a length, its checksum, the event and its checksum."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 12 + length + 4


def test_the_events_are_the_metrics(finished):
    found = {}
    for split in ("train", "test"):
        (path,) = (finished[0] / "tensorboard" / split).iterdir()
        version, begin, *events = events_of(path)
        assert version.file_version == "brain.Event:2"
        assert begin.session_log.status == SessionLog.START and begin.step == 0
        found |= {
            (event.step, split, value.tag): value.simple_value
            for event in events
            for value in event.summary.value
        }
    assert {tag for _, split, tag in found if split == "test"} == {"loss", "accuracy"}
    expected = {
        (line["step"], line["split"], name): value
        for line in read_metrics(finished[0])
        for name, value in line.items()
        if name not in ("step", "epoch", "split")
    }
    assert found == pytest.approx(expected, rel=1e-6)


def test_rates_are_logged_as_the_plan_says(finished):
    lines = [line for line in read_metrics(finished[0]) if line["split"] == "train"]
    last_steps = np.array([3, 7, 11, 15])
    for site, expected in {
        "input": 0.1 * (last_steps >= 8),
        "conv1": 0 * last_steps,
        "conv2": 0.3 * last_steps / 16,
        "fc": 0.5 * (last_steps < 8),
    }.items():
        found = [line[f"rate/{site}"] for line in lines]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_flags_of_the_record_repeat_the_run_bit_for_bit(finished, tmp_path):
    workdir, summary = finished
    config = parse_flag_lines((workdir / "run.flags").read_text())
    again = train(config, tmp_path / "again")
    assert again["params_digest"] == summary["params_digest"]
    assert again["masks_digest"] == summary["masks_digest"]
    texts = [(w / "metrics.jsonl").read_text() for w in (workdir, tmp_path / "again")]
    assert texts[0] == texts[1]


def test_the_same_command_prints_the_finished_result(finished, small):
    workdir, summary = finished
    assert train(small, workdir) == summary


def test_another_configuration_is_refused_with_the_flags_named(finished, small):
    other = replace(small, seed=5, dropout="fc:bernoulli:0.25")
    with pytest.raises(ValueError, match="different run.*--dropout.*0.25.*--seed.*'5'"):
        train(other, finished[0])


def test_restore_gives_configuration_and_state(finished):
    experiment, state = restore(str(finished[0]))
    assert experiment.config.dropout.startswith("input:bernoulli:0.1@late")
    assert int(state.step) == 16
    with pytest.raises(ValueError, match="no run"):
        restore(str(finished[0] / "checkpoints"))


def test_training_learns_and_seeds_differ(finished, small, tmp_path):
    plain = train(replace(small, dropout="none", epochs=12), tmp_path / "none")
    assert plain["train_accuracy"] > 0.9
    assert plain["params_digest"] != finished[1]["params_digest"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"microbatches": 2}, {"mesh": "data:4"}])
def test_micro_batches_and_devices_change_only_rounding(
    finished, small, tmp_path, changes
):
    workdir, summary = finished
    other = train(replace(small, **changes), tmp_path / "other")
    assert other["masks_digest"] == summary["masks_digest"]
    first, second = (read_metrics(w) for w in (workdir, tmp_path / "other"))
    losses = [[line["loss"] for line in lines] for lines in (first, second)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    # Before rounding has grown over the steps:
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)


@pytest.fixture(scope="module")
def hundred_steps(small, tmp_path_factory):
    """A hundred steps on one device, of batches of 20, whose rounding grows slowly."""
    config = replace(
        small, optimizer="sgd", batch_size=20, epochs=25, log_every=1, test_every=100
    )
    workdir = tmp_path_factory.mktemp("hundred") / "steps"
    return config, train(config, workdir), losses(workdir)


def losses(workdir):
    return [line["loss"] for line in read_metrics(workdir)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mesh": "data:3", "microbatches": 2},
        {"mesh": "data:2"},
        {"mesh": "data:3"},
        {"mesh": "data:4", "microbatches": 5},
        {"mesh": "data:8"},
    ],
    ids=str,
)
def test_devices_agree_over_a_hundred_steps(hundred_steps, tmp_path, changes):
    config, summary, expected = hundred_steps
    other = train(replace(config, **changes), tmp_path / "other")
    assert other["masks_digest"] == summary["masks_digest"]
    assert len(expected) == 100 + 1  # Each step, and the test.
    np.testing.assert_allclose(losses(tmp_path / "other"), expected, rtol=1e-5)


@pytest.mark.slow
def test_every_training_option_runs_together(small, tmp_path):
    """With tests as often as asked, and at the end."""
    summary = train(
        replace(
            small,
            optimizer="adamw",
            learning_rate_schedule="cosine",
            weight_decay=1e-3,
            max_norm=2.0,
            clip_norm=1.0,
            label_smoothing=0.1,
            validation_examples=20,
            train_examples=50,
            epochs=0,
            steps=5,
            log_every=2,
            test_every=4,
            save_every=3,
            bits="jax",
            augment="pad_crop(padding=1) flip cutmix",
        ),
        tmp_path / "all",
    )
    assert summary["steps"] == 5
    lines = read_metrics(tmp_path / "all")
    splits = [(line["step"], line["split"]) for line in lines]
    assert splits == [
        (2, "train"), (2, "validation"),
        (4, "train"), (4, "validation"), (4, "test"),
        (5, "train"), (5, "validation"), (5, "test"),
    ]  # fmt: skip


@pytest.fixture
def wild(small, tmp_path):
    """A run whose eighth training image has a hole."""
    arrays = {**np.load(small.dataset)}
    images = arrays.pop("train_images").astype(np.float32)
    images[7, 3, 3] = np.nan
    np.savez(tmp_path / "holes.npz", train_images=images, **arrays)
    return replace(small, dataset=str(tmp_path / "holes.npz"), save_every=1)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_step(wild, tmp_path):
    with pytest.raises(FloatingPointError) as raised:
        train(wild, tmp_path / "wild")
    experiment = prepare(canonical(wild))
    first = [ids.tolist() for ids, _ in islice(batch_ids(experiment, 0), 4)]
    step = next(i for i in range(4) if 7 in first[i])
    for part in (
        f"the loss is nan at step {step};", "fc 0.5;", f"examples: {first[step]}",
        "the images of [7])", f"last saved step: {step or None};", "--on_nan=skip",
    ):  # fmt: skip
        assert part in str(raised.value)
    assert not (tmp_path / "wild" / "summary.json").exists()


@pytest.mark.slow
def test_steps_that_are_not_finite_are_skipped_and_counted(wild, tmp_path):
    summary = train(replace(wild, on_nan="skip"), tmp_path / "wild")
    assert summary["steps"] == 16 and summary["skipped"] == 4  # Once an epoch.
    assert summary["test_loss"] < 2 and summary["train_loss"] is None
    lines = read_metrics(tmp_path / "wild")
    assert [line["skipped"] for line in lines if "skipped" in line] == [1, 2, 3, 4]
    assert "NaN" not in (tmp_path / "wild" / "metrics.jsonl").read_text()
