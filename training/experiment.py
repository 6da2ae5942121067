"""An experiment: everything that a run is made of, built from its configuration."""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int32, Key

from dropout import (
    Row,
    Timeline,
    learned_rows,
    named_key,
    parse,
    scale_rates,
)
from dropout.grammar import parse_call
from dropout.moment import Generator
from models.convolution import Algorithm
from training.config import Config
from training.consistency import draws_of
from training.convolution_choice import with_algorithm
from training.data import sources
from training.data.augmentation import (
    crop_of,
    distortions_of,
    on_device,
    parse_augmentations,
)
from training.data.mapped import distorted
from training.data.order import subsets
from training.data.splits import DataSet
from training.data.standardisation import standardise
from training.dropout_parameters import with_learned
from training.freezing import check_patterns, only_trained
from training.members import member_config, members_of, own_seed
from training.network import Network, planned
from training.objective import Objective
from training.optimizer import Scalar, faster_dropout, learning_rate, make_optimizer
from training.record.same_run import with_recorded_algorithm
from training.runtime.devices import make_mesh
from training.runtime.environment import check_settings
from training.shape_checks import check_calls, check_loss, check_outputs
from training.weights import Arrays, read_weights, with_weights

# By the name of a key of a run, the flag whose seed it comes from.
SEEDS = {"params": "init_seed", "data": "data_seed", "dropout": "mask_seed"}


class Experiment(NamedTuple):
    """A checked configuration with its data, network, plan and optimiser.

    Attributes:
        network: without its arrays, of which it has the shapes.
        keys: the run's keys, by what they are for: params, data, dropout.
        train_ids: rows of the source's train split that are trained on.
        validation_ids: rows of the source's train split that are held out.
        members: the solo runs of a population, whose keys and ids then have a leading
            axis here; all other values are the first member's.
    """

    config: Config
    data: DataSet
    train_ids: Int32[np.ndarray, "*members n"]
    validation_ids: Int32[np.ndarray, "*members v"]
    timeline: Timeline
    network: Network
    rows: tuple[Row, ...]
    objective: Objective
    optimizer: optax.GradientTransformation
    mesh: Mesh
    keys: dict[str, Key[Array, "*members"]]
    members: tuple["Experiment", ...] = ()

    @property
    def runs(self) -> tuple["Experiment", ...]:
        """Return the members, or the only run itself."""
        return self.members or (self,)


def prepare(config: Config) -> Experiment:
    """Load the data, build the network of each member, and resolve the plan.

    Raises:
        ValueError: the configuration and the data, or the plan and the model, do not
            fit together.
    """
    check_settings()
    config = with_recorded_algorithm(config)
    loaded = load_data(config)
    weights = read_weights(config.init) if config.init else None
    configs = [member_config(config, member) for member in members_of(config)]
    network = _network(configs[0], loaded, weights)
    runs = [assemble(each, loaded, network) for each in configs]
    network, objective = runs[0].network, runs[0].objective
    check_calls(config, network, runs[0].mesh)
    params = jax.eval_shape(
        lambda params: with_learned(params, objective.learned), network.params
    )
    check_patterns(params, config.train_only)
    check_outputs(network, loaded.train, objective, loaded.classes)
    check_loss(network, loaded.train, objective, runs[0].keys)
    return gather(config, tuple(runs)) if config.seeds else runs[0]


def load_data(config: Config) -> DataSet:
    """Return the data of a configuration.

    Raises:
        ValueError: they cannot be read, or do not fit the augmentations.
    """
    splits = config.train_split, config.test_split
    calls = parse_augmentations(config.augment)
    data = sources.load(
        config.dataset, config.data_dir, config.cache_dir, config.in_memory_bytes,
        splits, crop_of(calls),
    )  # fmt: skip
    distortions = distortions_of(calls)
    if not distortions:
        return data
    train = distorted(data.name, data.train, data.classes, distortions)
    return replace(data, train=train)


def gather(config: Config, members: tuple[Experiment, ...]) -> Experiment:
    """Return the population of solo runs."""
    names = members[0].keys
    algorithm = members[0].config.convolution
    return members[0]._replace(
        config=replace(config, convolution=algorithm),
        train_ids=np.stack([member.train_ids for member in members]),
        validation_ids=np.stack([member.validation_ids for member in members]),
        keys={n: jnp.stack([member.keys[n] for member in members]) for n in names},
        members=members,
    )


def assemble(config: Config, loaded: DataSet, network: Network) -> Experiment:
    """Return the experiment of one run on data that are loaded."""
    keys = _keys(config)
    train_ids, validation_ids = map(
        np.asarray,
        subsets(
            _key(own_seed(config, "subset_seed"), "data"),
            loaded.train.size,
            config.train_examples,
            config.validation_examples,
        ),
    )
    timeline = _timeline(config, len(train_ids))
    rows = scale_rates(network.rows, config.rate_factor)
    config = with_algorithm(config, network, rows, timeline)
    algorithm = cast(Algorithm, config.convolution)
    network = network._replace(forward=network.forward_by(algorithm, config.remat))
    objective = _objective(config, network, rows, timeline, loaded)
    objective = objective._replace(
        train_size=len(train_ids), run_key=run_mask_key(keys)
    )
    optimizer = optimizer_for(
        config, timeline, peak_learning_rate(config), config.weight_decay
    )
    return Experiment(
        config, loaded, train_ids, validation_ids, timeline, network, rows, objective,
        optimizer, make_mesh(config.mesh), keys,
    )  # fmt: skip


def _keys(config: Config) -> dict[str, Key[Array, ""]]:
    return {name: _key(own_seed(config, own), name) for name, own in SEEDS.items()}


def _key(seed: int, name: str) -> Key[Array, ""]:
    # By name: the environment can choose another default.
    return named_key(jax.random.key(seed, impl="threefry2x32"), name)


def mask_key(experiment: Experiment) -> Key[Array, "*members"]:
    """Return the key of the training masks."""
    return named_key(experiment.keys["dropout"], "train")


def run_mask_key(keys: dict[str, Key[Array, "*members"]]) -> Key[Array, "*members"]:
    """Return the key of masks that are fixed for a whole run, from the run's keys."""
    return named_key(keys["dropout"], "run")


def of_run(experiment: Experiment, tree: Any, number: int) -> Any:
    """Return what belongs to `experiment.runs[number]` in a state, or part of one."""
    if not experiment.members:
        return tree
    return jax.tree.map(lambda leaf: leaf[number], tree)


def peak_learning_rate(config: Config) -> float:
    """Return the highest learning rate, scaled to the batch size if that is asked for.

    In proportion, as Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1.
    """
    meant_for = config.learning_rate_batch or config.batch_size
    return config.learning_rate * (config.batch_size / meant_for)


def optimizer_for(
    config: Config, timeline: Timeline, peak: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Return the optimiser of a configuration at a learning rate and weight decay."""
    schedule = parse_call(config.learning_rate_schedule)
    rate = learning_rate(schedule, peak, timeline.total)
    optimizer = make_optimizer(
        parse_call(config.optimizer), rate, weight_decay, config.clip_norm
    )
    if config.dropout_learning_rate:
        optimizer = faster_dropout(optimizer, config.dropout_learning_rate / peak)
    return only_trained(optimizer, config.train_only)


def _network(config: Config, loaded: DataSet, weights: Arrays | None) -> Network:
    call, classes = parse_call(config.model), loaded.classes
    height, width, channels = loaded.train.image_shape
    network = planned(
        call, (height, width, channels), classes, _keys(config)["params"],
        config.compute_dtype, parse(config.dropout),
    )  # fmt: skip
    if weights is None:
        return network
    return with_weights(network, call, classes, config.init, weights)


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
    loaded: DataSet,
) -> Objective:
    mean, std = jnp.asarray(loaded.mean), jnp.asarray(loaded.std)

    def standardised(images: Array) -> Array:
        return standardise(images, mean, std)

    consistency = parse_call(config.consistency)
    channels = {site.name: site.shape[-1] for site in network.sites}
    return Objective(
        network.forward, standardised, rows, timeline, cast(Generator, config.bits),
        config.label_smoothing, on_device(parse_augmentations(config.augment)),
        learned_rows(rows, network.sites),
        draws=draws_of(consistency, config.samples_per_step), consistency=consistency,
        watched=tuple(
            (row.site, channels[row.site]) for row in rows if config.telemetry
        ),
        train_only=config.train_only,
    )  # fmt: skip
