"""Populations: the runs of a task, trained together, each with its own record."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import gcd
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from studies.tasks import Task, finished, program, unit_plan
from training.canonical import canonical
from training.config import Config
from training.data.order import evaluation_batches
from training.experiment import (
    Experiment,
    of_run,
    prepare,
    start_state,
    state_sharding,
)
from training.flag_text import flag_lines
from training.members import Member, with_members
from training.population import with_rates
from training.record.console import describe
from training.record.files import write_atomically
from training.record.metrics_log import read_metrics
from training.run import run
from training.runtime.checkpoints import open_checkpoints, restore_latest
from training.runtime.compilation import compiled
from training.runtime.devices import parse_mesh, resolve_mesh
from training.scoring import EVALUATION_BATCH, test_logits
from training.state import State

# The files of a finished run; its predictions are written last, and mark it finished.
RECORD = ("run.flags", "plan.txt", "metrics.jsonl", "summary.json", "predictions.npz")

PredictTest = Callable[[State, Array | np.ndarray, Float[Array, " rows"]], Array]


def train_members(task: Task, directory: Path) -> None:
    """Train a task's runs as one population, and write a separate record of each.

    The population's workdir is `directory`/population-<digest of its runs>. The record
    of a run, the files `RECORD`, is in `directory`/<its name>.

    Raises:
        ValueError: for the same reasons as `training.run.run`.
    """
    if all(finished(trial, directory) for trial in task.trials):
        return
    experiment = prepare(population(task, directory))
    summary = run(experiment)
    lines = read_metrics(Path(experiment.config.workdir))
    for index, (log_probabilities, labels) in enumerate(predictions(experiment)):
        config = task.trials[index].config
        path = directory / task.trials[index].run
        path.mkdir(exist_ok=True)
        flags = flag_lines(replace(config, workdir=str(path)))
        write_atomically(path / "run.flags", flags)
        write_atomically(path / "plan.txt", describe(experiment.runs[index]) + "\n")
        _write_lines(path, [line for line in lines if line["member"] == index])
        record = member_summary(summary, index, config)
        write_atomically(path / "summary.json", json.dumps(record, indent=2) + "\n")
        temporary = path / "predictions.partial.npz"
        np.savez(temporary, log_probabilities=log_probabilities, labels=labels)
        temporary.replace(path / "predictions.npz")


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
    return Member(config.seed, factor, config.learning_rate, config.weight_decay)


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
    }


def predictions(
    experiment: Experiment,
) -> Iterator[tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]]:
    """Yield each member's log-probabilities on the test split, and the labels."""
    start = start_state(experiment)
    with open_checkpoints(Path(experiment.config.workdir)) as checkpoints:
        found = restore_latest(checkpoints, start, state_sharding(experiment))
    assert found is not None, "a finished run has a checkpoint"
    state = jax.device_get(found[0])
    predict = compiled(make_predict(experiment))
    for index, alone in enumerate(experiment.runs):
        rates = jnp.array([row.rate for row in alone.rows], jnp.float32)
        yield predict_test(alone, of_run(experiment, state, index), predict, rates)


def make_predict(experiment: Experiment) -> PredictTest:
    """Return a function (state, images, rates) -> log-probabilities at test, to jit."""

    def predict(
        state: State, images: Array | np.ndarray, rates: Float[Array, " rows"]
    ) -> Array:
        objective = with_rates(experiment.objective, rates)
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
    fetched = [test.fetch(batch) for batch in batches]
    parts = [(predict(state, images, rates), labels) for images, labels in fetched]
    found, labels = map(np.concatenate, zip(*jax.device_get(parts)))
    found, labels = found[: test.size], labels[: test.size]
    return found.reshape(-1, found.shape[-1]), labels.reshape(-1)


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(path / "metrics.jsonl", text)
