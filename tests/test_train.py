"""Whole runs: one compilation, exact resumption, and what the record holds."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from training.config import Config, canonical, parse_flag_lines
from training.experiment import prepare, restore
from training.record import read_metrics
from training.run import run

ROOT = Path(__file__).parent.parent
PLAN = "input:bernoulli:0.1@late conv*:bernoulli:0.0..0.3@linear fc:bernoulli:0.5@early"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """96 noisy 10x10 images of three classes, 30 more to test on."""
    random = np.random.default_rng(0)
    labels = np.arange(126) % 3
    images = random.normal(0, 60, (126, 10, 10, 1)) + 80
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 3] += 90
    images = np.clip(images, 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(
        path,
        train_images=images[:96],
        train_labels=labels[:96],
        test_images=images[96:],
        test_labels=labels[96:],
    )
    return str(path)


@pytest.fixture(scope="session")
def small(dataset, tmp_path_factory):
    """The configuration that these tests vary."""
    return Config(
        dataset=dataset,
        model="cnn(widths=(2, 3), dense=8)",
        dropout=PLAN,
        epochs=4,
        batch_size=24,
        learning_rate=0.01,
        mesh="data:1",
        cache_dir=str(tmp_path_factory.mktemp("cache")),
    )


def train(config, workdir):
    return run(prepare(canonical(replace(config, workdir=str(workdir)))))


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """A finished run: its workdir and its summary."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    return workdir, train(small, workdir)


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
    config, state = restore(str(finished[0]))
    assert config.dropout.startswith("input:bernoulli:0.1@late")
    assert int(state.step) == 16
    with pytest.raises(ValueError, match="no run"):
        restore(str(finished[0] / "checkpoints"))


def test_training_learns_and_seeds_differ(finished, small, tmp_path):
    plain = train(replace(small, dropout="none", epochs=12), tmp_path / "none")
    assert plain["train_accuracy"] > 0.9
    assert plain["params_digest"] != finished[1]["params_digest"]


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


def test_every_training_option_runs_together(small, tmp_path):
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
            save_every=3,
            bits="jax",
        ),
        tmp_path / "all",
    )
    assert summary["steps"] == 5
    lines = read_metrics(tmp_path / "all")
    splits = [(line["step"], line["split"]) for line in lines]
    assert splits == [
        (2, "train"), (2, "validation"), (2, "test"),
        (4, "train"), (4, "validation"), (4, "test"),
        (5, "train"), (5, "validation"), (5, "test"),
    ]  # fmt: skip


def test_a_loss_that_is_not_finite_stops_with_the_step(small, tmp_path):
    arrays = {**np.load(small.dataset)}
    images = arrays.pop("train_images").astype(np.float32)
    images[7, 3, 3] = np.nan
    np.savez(tmp_path / "holes.npz", train_images=images, **arrays)
    wild = replace(small, dataset=str(tmp_path / "holes.npz"))
    with pytest.raises(FloatingPointError, match="not finite at step"):
        train(wild, tmp_path / "wild")
    assert not (tmp_path / "wild" / "summary.json").exists()


def command(config, workdir, *others):
    flags = [f"--{name}={value}" for name, value in vars(config).items()]
    flags = [f for f in flags if not f.startswith("--workdir")]
    return [sys.executable, "train.py", *flags, f"--workdir={workdir}", *others]


def test_kill_and_rerun_ends_bit_for_bit_the_same(small, tmp_path):
    config = replace(small, epochs=60, save_every=3)
    undisturbed = train(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    process = subprocess.Popen(
        command(config, killed), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not any(killed.glob("checkpoints/[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "summary.json").exists()
    summary = train(config, killed)
    assert summary["params_digest"] == undisturbed["params_digest"]
    assert summary["masks_digest"] == undisturbed["masks_digest"]
    whole = (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert (killed / "metrics.jsonl").read_text() == whole
    states = [restore(str(tmp_path / name))[1] for name in ("whole", "killed")]
    for first, second in zip(*map(jax.tree.leaves, states)):
        np.testing.assert_array_equal(first, second)
