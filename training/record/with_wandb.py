"""Weights & Biases as a tracker; `WANDB_MODE=offline` keeps all in the workdir."""

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import wandb  # pyright: ignore[reportMissingImports]

from training.record.trackers import PROJECT, Tracker, identity_in


@contextlib.contextmanager
def open_wandb(
    workdir: Path, start: int, settings: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Yield a tracker that logs into one W&B run, also after the run is resumed."""
    run = wandb.init(
        project=PROJECT,
        name=workdir.name,
        id=identity_in(workdir / "wandb-id", lambda: secrets.token_hex(8)),
        resume="allow",
        dir=str(workdir),
        config=dict(settings),
        # W&B would put itself between the run and its terminal.
        settings=wandb.Settings(console="off"),
    )
    # W&B's own steps never go back, as those of a run do that resumes.
    run.define_metric("*", step_metric="step")

    def add_scalars(split: str, values: Mapping[str, float], step: int) -> None:
        named = {f"{split}/{tag}": value for tag, value in values.items()}
        run.log({"step": step, **named})

    def add_picture(path: Path, step: int) -> None:
        run.log({"step": step, path.stem: wandb.Image(str(path))})

    try:
        yield Tracker(add_scalars, add_picture)
    finally:
        run.finish()
