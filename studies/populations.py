"""Populations: the runs of a task, trained together, each with its own record."""

import hashlib
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from studies.arms import Trial
from studies.records import TestPredictions, write_record
from studies.tasks import Task, finished, program, unit_plan
from training.canonical import canonical
from training.config import Config
from training.data.order import evaluation_batches
from training.data.reading import evaluation_loader, fetched
from training.experiment import (
    Experiment,
    of_run,
    prepare,
)
from training.flag_text import flag_lines
from training.members import Member, with_members
from training.own_files import load_plugins
from training.population import objective_with_rates
from training.record.console import describe
from training.record.digests import data_digest
from training.record.files import Damaged, make_directory, write_atomically
from training.record.metrics_log import LoggedLine, read_finished
from training.record.same_run import write_or_check_data
from training.restore import saved_state
from training.run import run
from training.runtime.compilation import compiled
from training.runtime.devices import parse_mesh, resolve_mesh
from training.scoring import EVALUATION_BATCH, test_logits
from training.state import State, steps_done

MEMBERS = "members.txt"  # In a population's workdir: the names of its runs.

PredictTest = Callable[[State, Array | np.ndarray, Float[Array, " rows"]], Array]


def train_members(task: Task, directory: Path) -> None:
    """Train a task's runs as one population, and write a separate record of each.

    The population's workdir is `directory`/population-<digest of its runs>. The record
    of a run, the files `RECORD`, is in `directory`/<its name>. A population whose own
    record is damaged is moved aside and trained again.

    Raises:
        ValueError: for the same reasons as `training.run.run`.
    """
    load_plugins(task.trials[0].config.plugins)
    if all(finished(trial, directory) for trial in task.trials):
        return
    experiment = prepare(population(task, directory))
    names = [trial.run for trial in task.trials]
    write_or_check_data(
        directory / data_file(experiment.config), data_digest(experiment.data)
    )
    try:
        found = trained(experiment, names)
    except Damaged as damaged:
        set_aside(Path(experiment.config.workdir), str(damaged))
        found = trained(experiment, names)
    for index, predicted in enumerate(predictions(experiment, found.state)):
        if not finished(task.trials[index], directory):
            trial = task.trials[index]
            _write_member(directory, experiment, trial, index, found, predicted)


class Trained(NamedTuple):
    """A finished population: its summary, its metrics and its last state."""

    summary: dict[str, Any]
    lines: list[LoggedLine]
    state: State


def trained(experiment: Experiment, names: list[str]) -> Trained:
    """Train a population, or take up what is there, and note the names of its runs.

    Raises:
        Damaged: its record is not whole.
    """
    workdir = make_directory("workdir", experiment.config.workdir)
    write_atomically(workdir / MEMBERS, "\n".join(names) + "\n")
    run(experiment)
    return Trained(*read_finished(workdir), saved_state(experiment, workdir))


def set_aside(workdir: Path, reason: str) -> None:
    """Move a population's workdir out of the way, and say why in one line."""
    aside = workdir.with_name(f"damaged-{workdir.name}-{time.time_ns()}")
    workdir.rename(aside)
    print(f"{reason} Moved to {aside}; training it again.", file=sys.stderr)


def begun(directory: Path) -> list[list[str]]:
    """Return the names of the runs of each population of a study, as far as begun."""
    paths = sorted(directory.glob(f"population-*/{MEMBERS}"))
    return [path.read_text(errors="replace").split() for path in paths]


def data_file(config: Config) -> str:
    """Return the name of the file with the digest of a data set, in a study."""
    return f"data-{zlib.crc32(config.dataset.encode()):08x}.json"


def _write_member(
    directory: Path,
    experiment: Experiment,
    trial: Trial,
    index: int,
    population: Trained,
    predicted: TestPredictions,
) -> None:
    workdir = directory / trial.run
    config = replace(trial.config, workdir=str(workdir))
    texts = {
        "run.flags": flag_lines(config),
        "plan.txt": describe(experiment.runs[index]) + "\n",
    }
    lines = [line for line in population.lines if line["member"] == index]
    summary = member_summary(population.summary, index, trial.config)
    write_record(workdir, texts, lines, summary, predicted)


def population(task: Task, directory: Path) -> Config:
    """Return the configuration that trains a task's runs together.

    Its mesh is the mesh of the runs, or all devices if the runs name none.
    """
    names = "\n".join(trial.run for trial in task.trials)
    digest = hashlib.sha256(names.encode()).hexdigest()[:10]
    mesh = task.trials[0].config.mesh
    shared = replace(program(task.trials[0].config), mesh="")
    members = [member_of(trial.config) for trial in task.trials]
    config = canonical(with_members(shared, members))
    workdir = directory.absolute() / f"population-{digest}"
    return replace(
        config, workdir=str(workdir), mesh=population_mesh(mesh, len(task.trials))
    )


def population_mesh(text: str, members: int) -> str:
    """Return the resolved mesh of a population.

    With `members:N` it uses the largest number of devices that divides both N and the
    members, because the last task of a program, or the rest of a stopped one, can be
    smaller than the others.
    """
    over_members, over_data = parse_mesh(text) if text else (1, 1)
    if text and over_data == 1:
        text = f"members:{gcd(over_members, members)}"
    return resolve_mesh(text, members)


def member_of(config: Config) -> Member:
    """Return the traced values of a run, as a member of its program's population."""
    factor = config.rate_factor * unit_plan(config.dropout)[1]
    return Member(
        config.seed,
        factor,
        config.learning_rate,
        config.weight_decay,
        config.subset_seed,
        config.init_seed,
        config.data_seed,
        config.mask_seed,
    )


def member_summary(
    summary: dict[str, Any], index: int, config: Config
) -> dict[str, Any]:
    """Return a member's results; its seconds are an equal share of the population's."""
    return {
        **summary["members"][index],
        "dropout": config.dropout,
        "seconds": summary["seconds"] / len(summary["members"]),
        "images_per_second": summary["images_per_second"],
        "versions": summary["versions"],
        "data_digest": summary["data_digest"],
        **({"files": summary["files"]} if "files" in summary else {}),
    }


def predictions(experiment: Experiment, state: State) -> Iterator[TestPredictions]:
    """Yield what each member predicts for the test split at a state of all of them."""
    step, state = steps_done(state), jax.device_get(state)
    predict = compiled(make_predict(experiment))
    for index, alone in enumerate(experiment.runs):
        rates = jnp.array([row.rate for row in alone.rows], jnp.float32)
        own = of_run(experiment, state, index)
        yield TestPredictions(*predict_test(alone, own, predict, rates), step)


def make_predict(experiment: Experiment) -> PredictTest:
    """Return a function (state, images, rates) -> log-probabilities at test, to jit."""

    def predict(
        state: State, images: Array | np.ndarray, rates: Float[Array, " rows"]
    ) -> Array:
        objective = objective_with_rates(experiment.objective, rates)
        logits, _ = test_logits(objective, state, jnp.asarray(images))
        return jax.nn.log_softmax(logits.astype(jnp.float32))

    return predict


def predict_test(
    experiment: Experiment, state: State, predict: PredictTest, rates: Array
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Return log-probabilities and labels of the test split.

    A text has one of each per character.
    """
    test = experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    batches, _ = evaluation_batches(ids, min(EVALUATION_BATCH, test.size))
    read = fetched(test, batches, evaluation_loader(experiment.config))
    parts = [(predict(state, images, rates), labels) for images, labels in read]
    found, labels = map(np.concatenate, zip(*jax.device_get(parts)))
    found, labels = found[: test.size], labels[: test.size]
    return found.reshape(-1, found.shape[-1]), labels.reshape(-1)
