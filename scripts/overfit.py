"""Draws overfitting, and each layer's gradient, with and without dropout.

    python scripts/overfit.py
    python scripts/overfit.py --dataset=mnist --data_dir=DIR --train_examples=1000

Trains on a small part of the training data and writes to --out: `overfit.png`, loss and
accuracy of `cnn` on training and test examples, both by the rules at test, with bands
over seeds; `gradients.png`, the norm of each kernel's gradient over training, for `cnn`
and a deep plain network; and `overfit.csv`, every number drawn.
"""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from absl import app, flags, logging
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.progress import track

from models.convolution import compiler_options
from training.config import Config, canonical
from training.data.batches import batches_from, make_batch
from training.experiment import Experiment, mask_key, prepare, start_state
from training.population import settings_of
from training.run import Step, compile_step
from training.scoring import make_evaluate_batch, scores_on
from training.state import State
from training.step import accumulate

DATASET = flags.DEFINE_string("dataset", "digits", "as in train.py")
DATA_DIR = flags.DEFINE_string("data_dir", "", "as in train.py")
EXAMPLES = flags.DEFINE_integer("train_examples", 200, "training examples")
EPOCHS = flags.DEFINE_integer("epochs", 60, "passes over them", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 5, "runs of each arm", lower_bound=1)
DEPTH = flags.DEFINE_integer("depth", 12, "convolutions of the plain network")
OUT = flags.DEFINE_string("out", "runs/overfit", "where the pictures go")

ARMS = {"without dropout": "tab:red", "with dropout": "tab:blue"}
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Trains every arm and seed and draws both pictures."""
    logging.set_verbosity(logging.FATAL)
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for arm in track(list(arms()), "training") for row in train_arm(*arm)]
    with (out / "overfit.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw_overfitting(rows, out / "overfit.png")
    draw_gradients(rows, out / "gradients.png")
    print("\n".join(summarise(rows)))
    print(f"pictures and numbers in {out}")


def arms() -> Iterator[tuple[str, str, str]]:
    """Each network with and without dropout: model, arm, plan."""
    plain = f"plain(depth={DEPTH.value})"
    plans = {
        "cnn": "pool*:bernoulli:0.25 fc:bernoulli:0.5",
        plain: "conv*:bernoulli:0.1 features:bernoulli:0.5",
    }
    for model, plan in plans.items():
        yield from zip((model, model), ARMS, ("none", plan))


def configuration(model: str, dropout: str, seed: int) -> Config:
    """The run of one arm and seed."""
    return canonical(
        Config(
            dataset=DATASET.value,
            data_dir=DATA_DIR.value,
            train_examples=EXAMPLES.value,
            batch_size=min(50, EXAMPLES.value),
            epochs=EPOCHS.value,
            model=model,
            dropout=dropout,
            seed=seed,
            mesh="data:1",
        )
    )


def train_arm(model: str, arm: str, plan: str) -> Iterator[Row]:
    """Trains one arm at every seed; all seeds share what the first compiled."""
    configs = [configuration(model, plan, seed) for seed in range(SEEDS.value)]
    first = prepare(configs[0])
    step, _ = compile_step(first, start_state(first))
    compiled = partial(jax.jit, compiler_options=compiler_options())
    evaluate = compiled(make_evaluate_batch(first.objective))
    differentiate = compiled(partial(accumulate, first.objective))
    for config in configs:
        experiment = prepare(config)
        for epoch, state in enumerate(states(experiment, step), 1):
            measured = scores(experiment, evaluate, state)
            measured |= gradient_norms(experiment, differentiate, state)
            for quantity, value in measured.items():
                yield {
                    "model": model, "arm": arm, "seed": config.seed, "epoch": epoch,
                    "quantity": quantity, "value": value,
                }  # fmt: skip


def states(experiment: Experiment, step: Step) -> Iterator[State]:
    """The state after each epoch."""
    state, batches = start_state(experiment), batches_from(experiment, 0)
    settings = settings_of(experiment)
    for _ in range(experiment.config.epochs):
        for _ in range(experiment.timeline.steps_per_epoch):
            state, _ = step(state, next(batches), settings)
        yield state


def scores(experiment: Experiment, evaluate, state: State) -> dict[str, float]:
    """Loss and accuracy on training and test examples, by the rules at test."""
    loaded = experiment.data
    test_ids = np.arange(loaded.test.size, dtype=np.int32)
    parts = {
        "train": (loaded.train, experiment.train_ids),
        "test": (loaded.test, test_ids),
    }
    found = {}
    for name, (split, ids) in parts.items():
        [result] = scores_on(experiment, evaluate, state, split, ids)
        found |= {f"{name} loss": result.loss, f"{name} accuracy": result.accuracy}
    return found


def gradient_norms(
    experiment: Experiment, differentiate, state: State
) -> dict[str, float]:
    """The l2 norm of each kernel's gradient of the mean loss, on the first batch."""
    ids = experiment.train_ids[: experiment.config.batch_size]
    batch = make_batch(experiment, ids, 0)
    key = mask_key(experiment)
    gradient, _, sums = differentiate(state, batch, key)
    layers = jax.device_get(gradient)
    return {
        f"gradient {name}": float(
            np.linalg.norm(layers[name]["kernel"]) / sums.examples
        )
        for name in layers
    }


def curves(rows: list[Row], model: str, arm: str, quantity: str) -> np.ndarray:
    """The values of a quantity, shape (seeds, epochs)."""
    chosen = [
        row["value"]
        for row in rows
        if (row["model"], row["arm"], row["quantity"]) == (model, arm, quantity)
    ]
    return np.array(chosen).reshape(SEEDS.value, EPOCHS.value)


def draw_overfitting(rows: list[Row], path: Path) -> None:
    """Training and test curves of `cnn`: mean over seeds, with the range as a band."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, quantity in zip(axes, ("loss", "accuracy")):
        for arm, colour in ARMS.items():
            for split, style in (("train", "--"), ("test", "-")):
                values = curves(rows, "cnn", arm, f"{split} {quantity}")
                band(axis, values, colour, style, f"{split}, {arm}")
        axis.set(xlabel="epoch", ylabel=quantity)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[1].legend()
    figure.suptitle(
        f"cnn on {EXAMPLES.value} examples of {DATASET.value}: mean and range of "
        f"{SEEDS.value} seeds"
    )
    figure.savefig(path, dpi=120)


def band(axis: Axes, values: np.ndarray, colour, style: str, label: str) -> None:
    """One curve with its range over seeds."""
    epochs = np.arange(1, values.shape[1] + 1)
    axis.plot(epochs, values.mean(0), style, color=colour, label=label)
    axis.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15)


def draw_gradients(rows: list[Row], path: Path) -> None:
    """The gradient norm of each layer over training, first layer dark, last light."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(len(models), 2, sharex=True, sharey="row")
    for model, pair in zip(models, axes):
        names = layers_of(rows, model)
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
        for axis, arm in zip(pair, ARMS):
            for name, colour in zip(names, colours):
                values = curves(rows, model, arm, f"gradient {name}")
                band(axis, values, colour, "-", name)
            axis.set(title=f"{model}, {arm}", yscale="log")
            axis.grid(alpha=0.3)
        pair[0].set_ylabel("gradient norm")
        pair[1].legend(fontsize="x-small", ncols=2)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    figure.savefig(path, dpi=120)


def layers_of(rows: list[Row], model: str) -> list[str]:
    """The layers of a model, from the input to the output."""
    names = {
        row["quantity"].removeprefix("gradient ")
        for row in rows
        if row["model"] == model and row["quantity"].startswith("gradient ")
    }
    first = ("conv", "fc", "out")
    return sorted(names, key=lambda n: (first.index(n.rstrip("0123456789")), len(n), n))


def summarise(rows: list[Row]) -> Iterator[str]:
    """What was seen at the end: scores of `cnn`, and the spread of gradient norms."""
    for arm in ARMS:
        final = {
            f"{split} {quantity}": curves(rows, "cnn", arm, f"{split} {quantity}")[
                :, -1
            ]
            for split in ("train", "test")
            for quantity in ("loss", "accuracy")
        }
        text = ", ".join(
            f"{k} {v.mean():.4f} +- {v.std():.4f}" for k, v in final.items()
        )
        yield f"cnn {arm}: {text}"
    for model in dict.fromkeys(row["model"] for row in rows):
        names = layers_of(rows, model)
        for arm in ARMS:
            first, last = (
                curves(rows, model, arm, f"gradient {name}")[:, [0, -1]].mean(0)
                for name in (names[0], names[-2])
            )
            ratio = first / last
            yield (
                f"{model} {arm}: gradient norm of {names[0]} over that of {names[-2]}: "
                f"{ratio[0]:.3g} after the first epoch, {ratio[1]:.3g} after the last"
            )


if __name__ == "__main__":
    app.run(main)
