"""Training the runs of a task, with their predictions on the test split."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from models.convolution import compiler_options
from studies.tasks import Task, finished
from training import data
from training.checkpoints import open_checkpoints, restore_latest
from training.config import Config
from training.devices import replicated
from training.experiment import Experiment, prepare, start_state
from training.loop import EVALUATION_BATCH
from training.run import run
from training.step import State, drop_at

# What a finished run is known by; its predictions are written last.
RECORD = ("run.flags", "plan.txt", "metrics.jsonl", "summary.json", "predictions.npz")


def train_members(task: Task, directory: Path) -> None:
    """Trains what is not finished of a task, each run in `directory`/its name.

    Raises:
        ValueError: as `run` does.
    """
    for trial in task.trials:
        if not finished(trial, directory):
            train_run(replace(trial.config, workdir=str(directory / trial.run)))


def train_run(config: Config) -> None:
    """Trains a run and writes `predictions.npz`: its answers on the test split."""
    experiment = prepare(config)
    run(experiment)
    path = Path(config.workdir)
    with open_checkpoints(path) as checkpoints:
        found = restore_latest(
            checkpoints, start_state(experiment), replicated(experiment.mesh)
        )
    assert found is not None, "a finished run has a checkpoint"
    log_probabilities, labels = predict_test(experiment, found[0])
    temporary = path / "predictions.partial.npz"
    np.savez(temporary, log_probabilities=log_probabilities, labels=labels)
    temporary.replace(path / "predictions.npz")


def predict_test(
    experiment: Experiment, state: State
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Log-probabilities and labels of the test split, by the rules at test."""
    objective, test = experiment.objective, experiment.data.test

    def predict(state: State, images: Array) -> Array:
        last = jnp.maximum(state.step - 1, 0)
        drop = drop_at(objective, state.params, last, None, "eval")
        images = objective.standardise(images)
        logits, _ = objective.forward(state.params, state.stats, images, drop)
        return jax.nn.log_softmax(logits.astype(jnp.float32))

    compiled = jax.jit(predict, compiler_options=compiler_options())
    ids = np.arange(test.size, dtype=np.int32)
    batches, _ = data.evaluation_batches(ids, min(EVALUATION_BATCH, test.size))
    fetched = [test.fetch(batch) for batch in batches]
    parts = [(compiled(state, images), labels) for images, labels in fetched]
    found, labels = map(np.concatenate, zip(*jax.device_get(parts)))
    found, labels = found[: test.size], labels[: test.size]
    # Of a text, each character is an example.
    return found.reshape(-1, found.shape[-1]), labels.reshape(-1)
