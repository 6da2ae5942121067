"""Training the runs of a task together, and the record of each as if it were alone."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from models.convolution import compiler_options
from studies.tasks import Task, finished, program, unit_plan
from training.config import Config, canonical, flag_lines, with_members
from training.data.order import evaluation_batches
from training.experiment import (
    Experiment,
    of_run,
    prepare,
    start_state,
    state_sharding,
)
from training.members import Member
from training.objective import drop_at
from training.population import with_rates
from training.record.console import describe
from training.record.files import read_metrics, write_atomically
from training.run import run
from training.runtime.checkpoints import open_checkpoints, restore_latest
from training.runtime.devices import resolve_mesh
from training.scoring import EVALUATION_BATCH
from training.state import State

# What a finished run is known by; its predictions are written last.
RECORD = ("run.flags", "plan.txt", "metrics.jsonl", "summary.json", "predictions.npz")

Predict = Callable[[State, Array | np.ndarray, Float[Array, " rows"]], Array]


def train_members(task: Task, directory: Path) -> None:
    """Trains a task's runs as one population, and writes each one's record apart.

    The population's workdir is `directory`/population-<digest of its runs>; the record
    of a run, the files `RECORD`, is in `directory`/its name.

    Raises:
        ValueError: as `training.run.run` does.
    """
    if all(finished(trial, directory) for trial in task.trials):
        return
    experiment = prepare(population(task, directory))
    summary = run(experiment)
    lines = read_metrics(Path(experiment.config.workdir))
    for index, (log_probabilities, labels) in enumerate(predictions(experiment)):
        alone, trial = experiment.runs[index], task.trials[index]
        path = directory / trial.run
        path.mkdir(exist_ok=True)
        config = replace(trial.config, workdir=str(path))
        write_atomically(path / "run.flags", flag_lines(config))
        write_atomically(path / "plan.txt", describe(alone) + "\n")
        _write_lines(path, [line for line in lines if line["member"] == index])
        record = member_summary(summary, index, trial.config)
        write_atomically(path / "summary.json", json.dumps(record, indent=2) + "\n")
        temporary = path / "predictions.partial.npz"
        np.savez(temporary, log_probabilities=log_probabilities, labels=labels)
        temporary.replace(path / "predictions.npz")


def population(task: Task, directory: Path) -> Config:
    """The configuration that trains a task's runs together, on all devices."""
    names = "\n".join(trial.run for trial in task.trials)
    digest = hashlib.sha256(names.encode()).hexdigest()[:10]
    shared = replace(program(task.trials[0].config), mesh="")
    members = [member_of(trial.config) for trial in task.trials]
    config = canonical(with_members(shared, members))
    workdir = directory.absolute() / f"population-{digest}"
    return replace(
        config, workdir=str(workdir), mesh=resolve_mesh("", len(task.trials))
    )


def member_of(config: Config) -> Member:
    """A run as a member of the population of its program."""
    factor = config.rate_factor * unit_plan(config.dropout)[1]
    return Member(config.seed, factor, config.learning_rate, config.weight_decay)


def member_summary(
    summary: dict[str, Any], index: int, config: Config
) -> dict[str, Any]:
    """A member's results, with its share of the time of all."""
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
    """Each member's log-probabilities, and the labels, of the test split."""
    start = start_state(experiment)
    with open_checkpoints(Path(experiment.config.workdir)) as checkpoints:
        found = restore_latest(checkpoints, start, state_sharding(experiment))
    assert found is not None, "a finished run has a checkpoint"
    state = jax.device_get(found[0])
    predict = jax.jit(make_predict(experiment), compiler_options=compiler_options())
    for index, alone in enumerate(experiment.runs):
        rates = jnp.array([row.rate for row in alone.rows], jnp.float32)
        yield predict_test(alone, of_run(experiment, state, index), predict, rates)


def make_predict(experiment: Experiment) -> Predict:
    """A function to be jitted: (state, images, rates) -> log-probabilities at test."""

    def predict(
        state: State, images: Array | np.ndarray, rates: Float[Array, " rows"]
    ) -> Array:
        objective = with_rates(experiment.objective, rates)
        last = jnp.maximum(state.step - 1, 0)
        drop = drop_at(objective, state.params, last, None, "eval")
        images = objective.standardise(jnp.asarray(images))
        logits, _ = objective.forward(state.params, state.stats, images, drop)
        return jax.nn.log_softmax(logits.astype(jnp.float32))

    return predict


def predict_test(
    experiment: Experiment, state: State, predict: Predict, rates: Array
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Log-probabilities and labels of the test split; of a text, of each character."""
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
