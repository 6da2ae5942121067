"""What a run prints: its resolved plan at the start, its result at the end."""

import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from dropout import Timeline
from training.data.augmentation import mixes
from training.data.description import data_lines, reading_line
from training.data.reading import loader_of
from training.data.splits import RecordSplit
from training.experiment import Experiment
from training.members import Member

Latest = dict[str, dict[str, float]]  # By split: loss and accuracy.


def describe(experiment: Experiment) -> str:
    """Return the resolved plan with the size of the network and of the run."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(experiment.network.params))
    timeline = experiment.timeline
    return "\n".join(
        [
            *data_lines(experiment.data),
            f"{experiment.config.model}: {parameters:,} parameters",
            *filter(None, [experiment.network.origin]),
            f"{timeline.total:,} steps, {timeline.steps_per_epoch:,} an epoch, "
            f"{experiment.train_ids.shape[-1]:,} training examples",
            *_reading(experiment),
            *_members(experiment),
            *_algorithm(experiment),
            *plan_table(experiment),
        ]
    )


def _reading(experiment: Experiment) -> list[str]:
    """The line on what a step reads, where the training data are streamed."""
    train, config = experiment.data.train, experiment.config
    if not isinstance(train, RecordSplit):
        return []
    images = config.batch_size * len(experiment.runs)
    if mixes(experiment.objective.augmentations):
        images *= 2
    return [reading_line(loader_of(config), images, train)]


def plan_table(experiment: Experiment) -> list[str]:
    """Return one aligned line for each site: variant, rate and schedule."""
    acting = {row.site: row for row in experiment.rows}
    columns = zip(*(run.rows for run in experiment.runs))
    rates = {rows[0].site: [float(row.rate) for row in rows] for rows in columns}
    lines = [("site", "variant", "unit", "rate", "schedule")]
    for site, *_ in experiment.network.sites:
        if site in acting:
            row = acting[site]
            rate = _rate_text(rates[site])
            lines.append((site, str(row.variant), row.unit, rate, str(row.schedule)))
        else:
            lines.append((site, "-", "", "", ""))
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of cells, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _rate_text(rates: list[float]) -> str:
    low, high = (f"{bound(rates):.6g}" for bound in (min, max))
    return low if low == high else f"{low} to {high}"


def _members(experiment: Experiment) -> list[str]:
    """Return lines that say in what the members of a population differ."""
    if not experiment.members:
        return []
    config = experiment.config
    lists = {f"{name}s": getattr(config, f"{name}s") for name in Member._fields}
    given = [f"--{flag}={text}" for flag, text in lists.items() if text]
    return [f"{len(experiment.members)} members: {' '.join(given)}"]


def _algorithm(experiment: Experiment) -> list[str]:
    """Return a line that says so if the convolutions are computed directly."""
    if (
        experiment.config.convolution != "direct"
        or not experiment.network.multiplications
    ):
        return []
    return [
        "convolutions: direct, which suits a run too short to make up for the "
        "compilation of the faster steps (--convolution=windows)"
    ]


def epoch_line(timeline: Timeline, step: int, latest: Latest, left: float) -> str:
    """Return the line after an epoch: the last scores of each split, the time left."""
    epochs = math.ceil(timeline.total / timeline.steps_per_epoch)
    epoch = math.ceil(step / timeline.steps_per_epoch)
    scores = [
        f"{split} loss {found['loss']:.4f}, accuracy {found['accuracy']:.2%}"
        for split, found in latest.items()
    ]
    time = str(datetime.timedelta(seconds=round(left)))
    where = f"epoch {epoch}/{epochs}, step {step:,}/{timeline.total:,}"
    return "; ".join([where, *scores, f"{time} left"])


def result_line(summary: dict[str, Any], workdir: Path) -> str:
    """Return the last line of a run."""
    where = f"after {summary['steps']:,} steps"
    if "members" in summary:
        return f"{_members_line(summary)} {where}; curves in {workdir / 'curves.png'}"
    skipped = f", {summary['skipped']:,} of them skipped" if summary["skipped"] else ""
    return (
        f"{_accuracies(summary)} {where}{skipped}; curves in {workdir / 'curves.png'}"
    )


def _accuracies(summary: dict[str, Any]) -> str:
    """Return the accuracies that are known; a run may not evaluate its train split."""
    found = {split: summary[f"{split}_accuracy"] for split in ("train", "test")}
    known = {split: value for split, value in found.items() if value is not None}
    return ", ".join(f"{split} accuracy {value:.2%}" for split, value in known.items())


def _members_line(summary: dict[str, Any]) -> str:
    frozen, count = len(summary["frozen"]), len(summary["members"])
    if frozen == count:
        return f"none of {count} members stayed finite"
    return (
        f"means of {count - frozen} members: "
        f"{_accuracies(summary)}"
        f"{f', {frozen} more did not stay finite,' if frozen else ''}"
    )
