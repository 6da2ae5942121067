"""From a configuration to everything that a run is made of."""

from pathlib import Path
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int32, Key

from dropout import Row, Timeline, identity, named_key, parse, resolve
from dropout.grammar import parse_call
from dropout.sites import Generator
from training import data, sources
from training.augmentation import draw, parse_augmentations
from training.checkpoints import open_checkpoints, restore_latest
from training.config import Config, canonical, parse_flag_lines
from training.devices import make_mesh, replicated
from training.learned import find_places, with_learned
from training.network import Network, build
from training.optimizer import faster_dropout, learning_rate, make_optimizer
from training.step import Batch, Objective, State, initial_state, summed_loss


class Experiment(NamedTuple):
    """A checked configuration with its data, network, plan and optimiser.

    Attributes:
        keys: the run's keys, by what they are for: params, data, dropout.
        train_ids: rows of the source's train split that are trained on.
        validation_ids: rows of the source's train split that are held out.
    """

    config: Config
    data: data.DataSet
    train_ids: Int32[np.ndarray, " n"]
    validation_ids: Int32[np.ndarray, " v"]
    timeline: Timeline
    network: Network
    rows: tuple[Row, ...]
    objective: Objective
    optimizer: optax.GradientTransformation
    mesh: Mesh
    keys: dict[str, Key[Array, ""]]


def prepare(config: Config) -> Experiment:
    """Loads the data, builds the network and resolves the plan.

    Raises:
        ValueError: the configuration and the data, or the plan and the model, do not
            fit together.
    """
    root = jax.random.key(config.seed)
    keys = {name: named_key(root, name) for name in ("params", "data", "dropout")}
    loaded = sources.load(config.dataset, config.data_dir, config.cache_dir)
    train_ids, validation_ids = map(
        np.asarray,
        data.subsets(
            keys["data"],
            loaded.train.size,
            config.train_examples,
            config.validation_examples,
        ),
    )
    timeline = _timeline(config, len(train_ids))
    height, width, channels = loaded.train.image_shape
    network = build(
        parse_call(config.model),
        (height, width, channels),
        loaded.classes,
        keys["params"],
    )
    rows = resolve(parse(config.dropout), network.sites)
    objective = _objective(config, network, rows, timeline, loaded)
    objective = objective._replace(train_size=len(train_ids))
    _check_shapes(objective, network, loaded.train, keys)
    mesh = make_mesh(config.mesh)
    return Experiment(
        config, loaded, train_ids, validation_ids, timeline, network, rows, objective,
        _optimizer(config, timeline), mesh, keys,
    )  # fmt: skip


def start_state(experiment: Experiment) -> State:
    """The state before the first step, on every device of the mesh."""
    network = experiment.network
    # Copied, since steps are donated the state: an experiment can start many times.
    params, stats = jax.tree.map(jnp.copy, (network.params, network.stats))
    params = with_learned(params, experiment.objective.places)
    state = initial_state(params, stats, experiment.optimizer)
    return jax.device_put(state, replicated(experiment.mesh))


def restore(workdir: str) -> tuple[Config, State]:
    """The configuration and the newest saved state of a run.

    Raises:
        ValueError: the directory holds no run, or no checkpoint yet.
    """
    path = Path(workdir)
    if not (path / "run.flags").is_file():
        raise ValueError(f"{workdir} holds no run: it has no run.flags.")
    config = canonical(parse_flag_lines((path / "run.flags").read_text()))
    experiment = prepare(config)
    with open_checkpoints(path) as checkpoints:
        found = restore_latest(
            checkpoints, start_state(experiment), replicated(experiment.mesh)
        )
    if found is None:
        raise ValueError(f"{workdir} has no checkpoint yet.")
    return config, found[0]


def _timeline(config: Config, examples: int) -> Timeline:
    if config.batch_size > examples:
        raise ValueError(
            f"--batch_size={config.batch_size} is larger than the {examples} training "
            "examples."
        )
    steps_per_epoch = examples // config.batch_size
    return Timeline(config.steps or config.epochs * steps_per_epoch, steps_per_epoch)


def _objective(
    config: Config,
    network: Network,
    rows: tuple[Row, ...],
    timeline: Timeline,
    loaded: data.DataSet,
) -> Objective:
    mean, std = jnp.asarray(loaded.mean), jnp.asarray(loaded.std)

    def standardise(images: Array) -> Array:
        return data.standardise(images, mean, std)

    first = jnp.asarray(loaded.train.fetch(np.zeros(1, np.int32))[0])
    return Objective(
        network.forward, standardise, rows, timeline, cast(Generator, config.bits),
        config.label_smoothing, parse_augmentations(config.augment),
        find_places(network, rows, jax.eval_shape(standardise, first)),
    )  # fmt: skip


def _optimizer(config: Config, timeline: Timeline) -> optax.GradientTransformation:
    rate = learning_rate(
        parse_call(config.learning_rate_schedule), config.learning_rate, timeline.total
    )
    optimizer = make_optimizer(
        parse_call(config.optimizer), rate, config.weight_decay, config.clip_norm
    )
    if not config.dropout_learning_rate:
        return optimizer
    return faster_dropout(
        optimizer, config.dropout_learning_rate / config.learning_rate
    )


def _check_shapes(
    objective: Objective,
    network: Network,
    train: data.Split,
    keys: dict[str, Key[Array, ""]],
) -> None:
    """Runs one loss abstractly: a variant that a site's shape does not suit raises."""
    rows = jnp.zeros(2, jnp.int32)
    images, labels = map(jnp.asarray, train.fetch(rows))
    _check_labels(objective, network, images, labels)
    calls, step = objective.augmentations, jnp.zeros((), jnp.int32)
    draws = draw(calls, keys["data"], 0, rows, rows, train.fetch)
    batch = Batch(images, labels, rows, jnp.ones(2), draws)
    jax.eval_shape(
        lambda params: summed_loss(
            objective, params, network.stats, step, batch, keys["dropout"]
        ),
        with_learned(network.params, objective.places),
    )


def _check_labels(
    objective: Objective, network: Network, images: Array, labels: Array
) -> None:
    logits = jax.eval_shape(
        lambda params: network.forward(
            params, network.stats, objective.standardise(images), identity
        )[0],
        network.params,
    )
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"--model gives answers of shape {logits.shape[1:-1]} an example, and "
            f"--dataset has labels of shape {labels.shape[1:]}; expected the same: () "
            "for a network of images, (time,) for one of text."
        )
    if objective.augmentations and labels.ndim > 1:
        raise ValueError("--augment acts on images, and --dataset is text.")
