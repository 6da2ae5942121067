"""The record of a run as it goes: metrics, trackers, the bar and the curves."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress, TaskID

from training.experiment import Experiment
from training.lines import Line
from training.record.console import Latest, epoch_line
from training.record.metrics_log import append_line, metrics_text
from training.record.progress import numbers_text, progress_bar
from training.record.trackers import RUN, Tracker
from training.runtime.checkpoints import Position
from training.step import Shown

SECONDS_BETWEEN_PLOTS = 30.0

Announce = Callable[[str], None]


def silent(text: str) -> None:
    """Announce nothing."""


@dataclass
class Recorder:
    """Writes what it is given; what has to be written is computed elsewhere.

    Attributes:
        tracker: gets the values of every line, and the curves.
        begin: when the run began, less the time between its processes.
        frozen: the members of which a line has said that they stay as they are.
        announce: gets one line after each epoch.
        start: the number of steps that were done when this process began.
        latest: the last scores of each split.
        plotted: when the curves were last plotted, in seconds of the monotonic clock.
    """

    experiment: Experiment
    workdir: Path
    tracker: Tracker
    bar: Progress
    task: TaskID
    begin: float
    frozen: set[int]
    announce: Announce
    start: int
    latest: Latest = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    plotted: float = field(default_factory=time.monotonic)

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines to `metrics.jsonl`, and give their values to the tracker."""
        for line in lines:
            append_line(self.workdir, _record_of(self.experiment, line))
            member = f"member{line.number}/" if self.experiment.members else ""
            values = {f"{member}{name}": v for name, v in line.values.items()}
            self.tracker.add_scalars(line.split, values, line.step)
        for split in {line.split for line in lines}:
            found = [line.values for line in lines if line.split == split]
            self.latest[split] = {
                name: float(np.mean([values[name] for values in found]))
                for name in ("loss", "accuracy")
            }

    def tell_epoch(self, step: int) -> None:
        """Announce the scores at the end of an epoch, and the time left."""
        timeline = self.experiment.timeline
        if step % timeline.steps_per_epoch == 0 or step == timeline.total:
            pace = (time.monotonic() - self.started) / (step - self.start)
            left = pace * (timeline.total - step)
            self.announce(epoch_line(timeline, step, self.latest, left))

    def plot(self, step: int) -> None:
        """Plot the curves, but not more often than every half minute."""
        # A picture takes a third of a second, and short runs have it at their end.
        if time.monotonic() - self.plotted > SECONDS_BETWEEN_PLOTS:
            self.plot_now(step)

    def plot_now(self, step: int) -> None:
        """Plot the curves into `curves.png`, and give the picture to the tracker."""
        import training.record.drawing  # noqa: F401, I001  Before Matplotlib is imported.
        from training.record.curves import CURVES, plot_run

        plot_run(self.workdir, self.experiment)
        self.tracker.add_picture(self.workdir / CURVES, step)
        self.plotted = time.monotonic()

    def show(self, step: int, metrics: Shown) -> None:
        """Move the bar to a step, with the means over the runs that are finite."""
        losses, accuracies, finite = (
            np.atleast_1d(metrics[name]) for name in ("loss", "accuracy", "finite")
        )
        loss, accuracy = (
            float(values[finite].mean()) if finite.any() else math.nan
            for values in (losses, accuracies)
        )
        test = self.latest["test"]["accuracy"] if "test" in self.latest else None
        text = numbers_text(loss, accuracy, test)
        self.bar.update(self.task, completed=step + 1, numbers=text)

    def tell_resources(self, step: int, values: Mapping[str, float]) -> None:
        """Give the tracker what belongs to no split, and to no metrics file."""
        self.tracker.add_scalars(RUN, values, step)

    def tell_frozen(self, number: int, step: int, what: str) -> None:
        """Say once of a member that it stays as it is, and why."""
        if number not in self.frozen:
            self.frozen.add(number)
            seed = self.experiment.runs[number].config.seed
            print(
                f"member {number} (seed {seed}) stays as it is: the {what} at step "
                f"{step}.",
                file=sys.stderr,
            )

    def seconds(self) -> float:
        """Return how long the run has taken, in all its processes."""
        return time.perf_counter() - self.begin

    def position(self) -> Position:
        """Return where the record stands now."""
        return Position(metrics_text(self.workdir), self.seconds())


@contextlib.contextmanager
def open_recorder(
    experiment: Experiment,
    workdir: Path,
    start: int,
    begin: float,
    frozen: set[int],
    announce: Announce,
    tracker: Tracker,
) -> Iterator[Recorder]:
    """Yield the recorder of a run that this process takes up at step `start`."""
    with progress_bar() as bar:
        task = bar.add_task(
            "",
            total=experiment.timeline.total,
            completed=start,
            numbers="compiling",
            images=experiment.config.batch_size * len(experiment.runs),
        )
        yield Recorder(
            experiment, workdir, tracker, bar, task, begin, frozen, announce, start
        )


def _record_of(experiment: Experiment, line: Line) -> dict[str, float | int | str]:
    """The line as it is written: step, epoch and split first, then the member."""
    seed = experiment.runs[line.number].config.seed
    member = {"seed": seed, "member": line.number} if experiment.members else {}
    epoch = line.step / experiment.timeline.steps_per_epoch
    head = {"step": line.step, "epoch": epoch, "split": line.split}
    return {**head, **member, **line.values}
