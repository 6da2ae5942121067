"""The study of overfitting and of each layer's gradient, with and without dropout.

It trains networks on few examples at several seeds. After each epoch it measures the
scores on training and test examples, and the norm of each kernel's gradient.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from training.canonical import canonical
from training.config import Config
from training.data.batches import batches_from, make_batch
from training.experiment import Experiment, mask_key, prepare
from training.network import Tree
from training.objective import Objective
from training.population import MemberStep, traced_members
from training.programs import compile_step
from training.runtime.compilation import compiled
from training.scoring import make_evaluate_batch, scores_on
from training.start import start_state
from training.state import Batch, State, Totals
from training.step import accumulate

ARMS = ("without dropout", "with dropout")
BATCH = 50  # The largest batch size.


class OverfittingStudy(NamedTuple):
    """What to train: the values of the flags of `scripts/overfit.py`.

    Attributes:
        train_examples: the number of training examples.
        epochs: the number of passes over them.
        seeds: the number of runs per arm, with the seeds 0, 1, 2, ...
        depth: the number of convolutions of the plain network.
    """

    dataset: str
    data_dir: str
    train_examples: int
    epochs: int
    seeds: int
    depth: int


class NetworkAndPlan(NamedTuple):
    """A network with or without dropout."""

    model: str
    name: str
    dropout: str


class Measurement(NamedTuple):
    """The value of one quantity after one epoch of one run."""

    model: str
    arm: str
    seed: int
    epoch: int
    quantity: str
    value: float


def arms_of(study: OverfittingStudy) -> list[NetworkAndPlan]:
    """Return each network without and with dropout."""
    plans = {
        "cnn": "pool*:bernoulli:0.25 fc:bernoulli:0.5",
        f"plain(depth={study.depth})": "conv*:bernoulli:0.1 features:bernoulli:0.5",
    }
    return [
        NetworkAndPlan(model, name, dropout)
        for model, plan in plans.items()
        for name, dropout in zip(ARMS, ("none", plan))
    ]


def configuration(study: OverfittingStudy, arm: NetworkAndPlan, seed: int) -> Config:
    """Return the configuration of the run of one arm and seed.

    Raises:
        ValueError: `train.py` does not accept a value.
    """
    config = Config(
        dataset=study.dataset,
        data_dir=study.data_dir,
        train_examples=study.train_examples,
        batch_size=min(BATCH, study.train_examples),
        epochs=study.epochs,
        model=arm.model,
        dropout=arm.dropout,
        seed=seed,
        mesh="data:1",
    )
    return canonical(config)


def train_arms(
    study: OverfittingStudy, arms: Iterable[NetworkAndPlan]
) -> list[Measurement]:
    """Train every arm at every seed, and return all measurements in this order."""
    return [measurement for arm in arms for measurement in train_arm(study, arm)]


def train_arm(study: OverfittingStudy, arm: NetworkAndPlan) -> Iterator[Measurement]:
    """Train one arm at every seed; all seeds share the programs of the first one."""
    configs = [configuration(study, arm, seed) for seed in range(study.seeds)]
    first = prepare(configs[0])
    step, _ = compile_step(first, start_state(first))
    evaluate = compiled(make_evaluate_batch(first.objective))
    differentiate = compiled(partial(differentiated, first.objective))
    for config in configs:
        experiment = prepare(config)
        for epoch, state in enumerate(states(experiment, step), 1):
            measured = scores(experiment, evaluate, state)
            measured |= gradient_norms(experiment, differentiate, state)
            for name, value in measured.items():
                yield Measurement(arm.model, arm.name, config.seed, epoch, name, value)


def differentiated(
    objective: Objective,
    state: State,
    batch: Batch,
    key: Key[Array, ""],
    run_key: Key[Array, ""],
) -> tuple[Tree, Tree, Totals]:
    """Return `accumulate` for the masks of one seed."""
    return accumulate(objective._replace(run_key=run_key), state, batch, key)


def states(experiment: Experiment, step: MemberStep) -> Iterator[State]:
    """Yield the state after each epoch."""
    state, batches = start_state(experiment), batches_from(experiment, 0)
    member = traced_members(experiment)
    for _ in range(experiment.config.epochs):
        for _ in range(experiment.timeline.steps_per_epoch):
            state, _ = step(state, next(batches), member)
        yield state


def scores(
    experiment: Experiment, evaluate: Callable, state: State
) -> dict[str, float]:
    """Return loss and accuracy on training and test examples, both without dropout."""
    data = experiment.data
    test_ids = np.arange(data.test.size, dtype=np.int32)
    parts = {
        "train": (data.train, experiment.train_ids),
        "test": (data.test, test_ids),
    }
    found = {}
    for name, (split, ids) in parts.items():
        [result] = scores_on(experiment, evaluate, state, split, ids)
        found |= {f"{name} loss": result.loss, f"{name} accuracy": result.accuracy}
    return found


def gradient_norms(
    experiment: Experiment, differentiate: Callable, state: State
) -> dict[str, float]:
    """Return the l2 norm of each kernel's gradient of the mean loss, on one batch.

    The batch is always the same: the first training examples with the masks of epoch 0.
    Norms of different epochs thus differ because of the parameters alone.
    """
    ids = experiment.train_ids[: experiment.config.batch_size]
    batch = make_batch(experiment, ids, 0)
    keys = mask_key(experiment), experiment.objective.run_key
    gradient, _, sums = differentiate(state, batch, *keys)
    layers = jax.device_get(gradient)
    return {
        f"gradient {name}": float(np.linalg.norm(layer["kernel"]) / sums.examples)
        for name, layer in layers.items()
    }


def curves(
    measurements: list[Measurement], model: str, arm: str, quantity: str
) -> Float[np.ndarray, "seeds epochs"]:
    """Return the values of a quantity, by seed and epoch."""
    chosen = [m for m in measurements if m[:2] == (model, arm) and m[4] == quantity]
    seeds = len({measurement.seed for measurement in chosen})
    return np.array([measurement.value for measurement in chosen]).reshape(seeds, -1)


def models_of(measurements: list[Measurement]) -> list[str]:
    """Return the networks, in the order of their training."""
    return list(dict.fromkeys(measurement.model for measurement in measurements))


def layers_of(measurements: list[Measurement], model: str) -> list[str]:
    """Return the layers of a network, from the input to the output."""
    names = {
        measurement.quantity.removeprefix("gradient ")
        for measurement in measurements
        if measurement.model == model and measurement.quantity.startswith("gradient ")
    }
    first = ("conv", "fc", "out")
    return sorted(names, key=lambda n: (first.index(n.rstrip("0123456789")), len(n), n))


def summary_lines(measurements: list[Measurement]) -> Iterator[str]:
    """Yield the last scores of `cnn`, then the ratios of gradient norms over layers."""
    for arm in ARMS:
        yield f"cnn {arm}: {_final_scores(measurements, arm)}"
    for model in models_of(measurements):
        names = layers_of(measurements, model)
        for arm in ARMS:
            first, last = (
                curves(measurements, model, arm, f"gradient {name}")[:, [0, -1]].mean(0)
                for name in (names[0], names[-2])
            )
            ratio = first / last
            yield (
                f"{model} {arm}: gradient norm of {names[0]} over that of {names[-2]}: "
                f"{ratio[0]:.3g} after the first epoch, {ratio[1]:.3g} after the last"
            )


def _final_scores(measurements: list[Measurement], arm: str) -> str:
    """Return mean and standard deviation over seeds of each score at the end."""
    quantities = ("train loss", "train accuracy", "test loss", "test accuracy")
    final = {q: curves(measurements, "cnn", arm, q)[:, -1] for q in quantities}
    return ", ".join(f"{k} {v.mean():.4f} +- {v.std():.4f}" for k, v in final.items())
