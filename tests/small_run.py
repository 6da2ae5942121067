"""A run that is small enough to be repeated in many tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.canonical import canonical
from training.config import Config
from training.experiment import prepare
from training.run import run

PLAN = "input:bernoulli:0.1@late conv*:bernoulli:0.0..0.3@linear fc:bernoulli:0.5@early"


def write_stripes(path: Path) -> None:
    """96 noisy 10x10 images of three classes, 30 more to test on."""
    random = np.random.default_rng(0)
    labels = np.arange(126) % 3
    images = random.normal(0, 60, (126, 10, 10, 1)) + 80
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 3] += 90
    images = np.clip(images, 0, 255).astype(np.uint8)
    np.savez(
        path,
        train_images=images[:96],
        train_labels=labels[:96],
        test_images=images[96:],
        test_labels=labels[96:],
    )


def configuration(directory: Path) -> Config:
    """The configuration that the tests vary: 16 steps, a schedule at every site."""
    write_stripes(directory / "stripes.npz")
    return Config(
        dataset=str(directory / "stripes.npz"),
        model="cnn(widths=(2, 3), dense=8)",
        dropout=PLAN,
        epochs=4,
        batch_size=24,
        learning_rate=0.01,
        mesh="data:1",
        cache_dir=str(directory / "cache"),
    )


def train(config: Config, workdir: Path | str) -> dict:
    """Runs a configuration in a workdir and returns its summary."""
    return run(prepare(canonical(replace(config, workdir=str(workdir)))))
