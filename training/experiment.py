"""An experiment: everything that a run is made of, built from its configuration."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Int32, Key

from dropout import (
    Row,
    Timeline,
    learned_rows,
    named_key,
    parse,
    resolve,
    scale_rates,
)
from dropout.grammar import parse_call
from dropout.sites import Generator
from models.convolution import Algorithm
from training.config import Config
from training.consistency import draws_of
from training.convolution_choice import with_algorithm
from training.data import sources
from training.data.augmentation import parse_augmentations
from training.data.order import subsets
from training.data.splits import DataSet, standardise
from training.dropout_parameters import with_learned
from training.members import member_config, members_of
from training.network import Network, Tree, initialiser, planned
from training.objective import Objective
from training.optimizer import Scalar, faster_dropout, learning_rate, make_optimizer
from training.record.claim import with_recorded_algorithm
from training.runtime.devices import make_mesh, over_members, put, replicated
from training.runtime.environment import check_settings
from training.shape_checks import check_loss, check_outputs
from training.state import State, initial_state
from training.telemetry import empty_sums


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
    loaded = sources.load(config.dataset, config.data_dir, config.cache_dir)
    network = planned(
        parse_call(config.model), image_shape(loaded), loaded.classes,
        config.compute_dtype,
    )  # fmt: skip
    runs = [
        assemble(member_config(config, member), loaded, network)
        for member in members_of(config)
    ]
    check_outputs(runs[0].network, loaded.train, runs[0].objective)
    check_loss(runs[0].network, loaded.train, runs[0].objective, runs[0].keys)
    return gather(config, tuple(runs)) if config.seeds else runs[0]


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


def image_shape(loaded: DataSet) -> tuple[int, int, int]:
    """Return the height, width and channels of a data set's images."""
    height, width, channels = loaded.train.image_shape
    return height, width, channels


def assemble(config: Config, loaded: DataSet, network: Network) -> Experiment:
    """Return the experiment of one run on data that are loaded."""
    # By name: the environment can choose another default.
    root = jax.random.key(config.seed, impl="threefry2x32")
    keys = {name: named_key(root, name) for name in ("params", "data", "dropout")}
    train_ids, validation_ids = map(
        np.asarray,
        subsets(
            keys["data"],
            loaded.train.size,
            config.train_examples,
            config.validation_examples,
        ),
    )
    timeline = _timeline(config, len(train_ids))
    rows = scale_rates(
        resolve(parse(config.dropout), tuple(site.name for site in network.sites)),
        config.rate_factor,
    )
    config = with_algorithm(config, network, rows, timeline)
    algorithm = cast(Algorithm, config.convolution)
    network = network._replace(forward=network.forward_by(algorithm))
    objective = _objective(config, network, rows, timeline, loaded)
    objective = objective._replace(train_size=len(train_ids))
    optimizer = optimizer_for(
        config, timeline, config.learning_rate, config.weight_decay
    )
    return Experiment(
        config, loaded, train_ids, validation_ids, timeline, network, rows, objective,
        optimizer, make_mesh(config.mesh), keys,
    )  # fmt: skip


def start_state(experiment: Experiment) -> State:
    """Return the state before the first step, on the devices of the mesh."""
    initial = initialiser(
        parse_call(experiment.config.model), image_shape(experiment.data),
        experiment.data.classes,
    )  # fmt: skip
    begin = jax.jit(partial(_state, experiment))
    states = []
    for run in experiment.runs:
        params, stats = initial(run.keys["params"])
        states.append(begin(with_learned(params, run.objective.learned), stats))
    state = states[0]
    if experiment.members:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return put(state, state_sharding(experiment))


def mask_key(experiment: Experiment) -> Key[Array, "*members"]:
    """Return the key of the training masks."""
    return named_key(experiment.keys["dropout"], "train")


def of_run(experiment: Experiment, tree: Any, number: int) -> Any:
    """Return what belongs to `experiment.runs[number]` in a state, or part of one."""
    if not experiment.members:
        return tree
    return jax.tree.map(lambda leaf: leaf[number], tree)


def state_sharding(experiment: Experiment) -> NamedSharding:
    """Return where the state lies: on every device, or each member on one."""
    spread = over_members if experiment.members else replicated
    return spread(experiment.mesh)


def optimizer_for(
    config: Config, timeline: Timeline, peak: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Return the optimiser of a configuration at a learning rate and weight decay."""
    schedule = parse_call(config.learning_rate_schedule)
    rate = learning_rate(schedule, peak, timeline.total)
    optimizer = make_optimizer(
        parse_call(config.optimizer), rate, weight_decay, config.clip_norm
    )
    if not config.dropout_learning_rate:
        return optimizer
    return faster_dropout(optimizer, config.dropout_learning_rate / peak)


def _state(experiment: Experiment, params: Tree, stats: Tree) -> State:
    state = initial_state(params, stats, experiment.optimizer)
    return state._replace(telemetry=empty_sums(experiment.objective.watched))


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
        config.label_smoothing, parse_augmentations(config.augment),
        learned_rows(rows, network.sites),
        draws=draws_of(consistency, config.samples_per_step), consistency=consistency,
        watched=tuple(
            (row.site, channels[row.site]) for row in rows if config.telemetry
        ),
    )  # fmt: skip
