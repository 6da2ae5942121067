"""One process's part of a run."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from rich.progress import Progress, TaskID

from training.experiment import Experiment
from training.record.tensorboard import Add
from training.state import Batch, State, Totals
from training.step import Metrics


@dataclass
class Session:
    """One process's part of a run, with what it measures on the way.

    Attributes:
        add_events: adds the values of a step, by their tags, for TensorBoard.
        start: the step at which this process takes up the run.
        begin: when the run began, less the time between its processes.
        signals: those received that ask to stop.
        settings: the last argument of the step: the key of the masks, or the members'.
        frozen: members whose loss is no longer finite.
        plotted: when the curves were last plotted, in seconds of the monotonic clock.
        seconds: time in training steps after the first, synchronised.
        timed_steps: the steps in that time.
    """

    experiment: Experiment
    workdir: Path
    checkpoints: ocp.CheckpointManager
    add_events: Add
    bar: Progress
    task: TaskID
    batches: Iterator[Batch]
    step: Callable[[State, Batch, Any], tuple[State, Metrics]]
    evaluate: Callable[..., Totals]
    statistics: Callable[..., Any] | None
    start: int
    begin: float
    signals: list[signal.Signals]
    settings: Any
    frozen: set[int] = field(default_factory=set)
    plotted: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    timed_steps: int = 0
