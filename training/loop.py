"""The training loop: steps between two stops, then what is due at the stop."""

import itertools
import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import reached_preemption_sync_point
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, Key
from rich.progress import Progress, TaskID
from tensorboardX import SummaryWriter

from dropout import named_key, rates_at
from training import data
from training.augmentation import draw, fetch_shaped
from training.batch_norm import statistics_over, variance_shift
from training.checkpoints import Position, save
from training.devices import over_member_rows, over_rows, own_rows, place
from training.evaluation import Scores, mean_scores, scores_of
from training.experiment import Experiment, of_run
from training.interrupt import Stopped
from training.learned import rates_of
from training.network import Tree
from training.record import append_line, metrics_size
from training.step import (
    Batch,
    Metrics,
    State,
    Totals,
    mean_penalty,
    steps_done,
)
from training.telemetry import figures

EVALUATION_BATCH = 512
STEPS_IN_FLIGHT = 2


@dataclass
class Session:
    """One process's part of a run, with what it measures on the way.

    Attributes:
        start: the step at which this process takes up the run.
        begin: when the run began, less the time between its processes.
        signals: those received that ask to stop.
        settings: the last argument of the step: the key of the masks, or the members'.
        frozen: members whose loss is no longer finite.
        seconds: time in training steps after the first, synchronised.
        timed_steps: the steps in that time.
    """

    experiment: Experiment
    workdir: Path
    checkpoints: ocp.CheckpointManager
    events: SummaryWriter
    bar: Progress
    task: TaskID
    batches: Iterator[Batch]
    step: Callable[[State, Batch, Any], tuple[State, Metrics]]
    evaluate: Callable[..., Totals]
    statistics: Callable[..., Any] | None
    start: int
    begin: float
    signals: list[signal.Signals]
    settings: Any
    frozen: set[int] = field(default_factory=set)
    seconds: float = 0.0
    timed_steps: int = 0


def mask_key(experiment: Experiment) -> Key[Array, "*members"]:
    """The key of the training masks."""
    return named_key(experiment.keys["dropout"], "train")


def make_batch(
    experiment: Experiment, ids: Int32[np.ndarray, "*members b"], epoch: int
) -> Batch:
    """A batch in micro-batches, each padded to a multiple of the devices."""
    parts = ids.reshape(*ids.shape[:-1], experiment.config.microbatches, -1)
    padding = -parts.shape[-1] % experiment.mesh.shape["data"]
    widths = [(0, 0)] * (parts.ndim - 1) + [(0, padding)]
    own = own_rows(experiment.mesh, parts.shape[-1] + padding)
    examples = np.pad(parts, widths)[..., own]
    weights = np.pad(np.ones(parts.shape, np.float32), widths)[..., own]
    fetch = experiment.data.train.fetch
    calls, key = experiment.objective.augmentations, experiment.keys["data"]
    draws = draw(calls, key, epoch, examples, experiment.train_ids, fetch)
    arrays = (*fetch_shaped(fetch, examples), examples, weights, draws)
    spread = over_member_rows if experiment.members else over_rows
    return Batch(*place(arrays, spread(experiment.mesh)))


def run_steps(session: Session, state: State) -> State:
    """Trains from `session.start` to the end, with all that is due on the way."""
    timeline, config = session.experiment.timeline, session.experiment.config
    epoch = timeline.steps_per_epoch
    periods = (
        config.log_every or epoch,
        epoch,
        config.test_every or epoch,
        config.save_every or epoch,
    )
    done = session.start
    while done < timeline.total:
        stop = min(timeline.total, *((done // every + 1) * every for every in periods))
        state = advance(session, state, done, stop)
        if steps_done(state) < stop:
            raise _stopped(session, state)
        due = [stop % every == 0 or stop == timeline.total for every in periods]
        if due[0]:
            state = log_training(session, state, stop)
        if due[1]:
            log_validation(session, state, stop)
        if due[2]:
            log_test(session, state, stop)
        if due[3]:
            save(session.checkpoints, state, _position(session))
        if session.signals:
            raise _stopped(session, state)
        done = stop
    return state


def advance(session: Session, state: State, first: int, stop: int) -> State:
    """The steps from `first` to `stop`, or to a signal; timed.

    Raises:
        FloatingPointError: a step is not finite, and `on_nan` is stop.
    """
    in_flight = deque()
    begin = time.perf_counter()
    for step in range(first, stop):
        state, metrics = session.step(state, next(session.batches), session.settings)
        in_flight.append(metrics)
        if step == session.start:
            jax.block_until_ready(state)
            begin = time.perf_counter()
        if len(in_flight) > STEPS_IN_FLIGHT:
            _show(session, step - STEPS_IN_FLIGHT, in_flight.popleft())
        if _stops_after(session, step):
            break
    jax.block_until_ready(state)
    done = steps_done(state)
    session.seconds += time.perf_counter() - begin
    session.timed_steps += done - first - (first == session.start)
    for step, metrics in zip(range(done - len(in_flight), done), in_flight):
        _show(session, step, metrics)
    return state


def _stops_after(session: Session, step: int) -> bool:
    """Whether a stop was asked for; many processes agree on the step to stop after."""
    # SIGTERM to any of them; each calls this after every step.
    if jax.process_count() > 1 and reached_preemption_sync_point(step):
        session.signals.append(signal.SIGTERM)
    return bool(session.signals)


def batches(experiment: Experiment, first: int) -> Iterator[Batch]:
    """The batches from step `first` on, each a function of the seed and the step."""
    return (make_batch(experiment, *each) for each in batch_ids(experiment, first))


def batch_ids(
    experiment: Experiment, first: int
) -> Iterator[tuple[Int32[np.ndarray, "*members batch"], int]]:
    """The example ids and the epoch of each batch from step `first` on."""
    timeline = experiment.timeline
    for epoch in itertools.count(first // timeline.steps_per_epoch):
        done = max(first - epoch * timeline.steps_per_epoch, 0)
        yield from ((ids, epoch) for ids in epoch_ids(experiment, epoch)[done:])


def epoch_ids(
    experiment: Experiment, epoch: int
) -> Int32[np.ndarray, "steps *members batch"]:
    """The examples of each step of an epoch."""
    size = experiment.config.batch_size
    orders = [
        np.asarray(data.epoch_order(run.keys["data"], epoch, run.train_ids, size))
        for run in experiment.runs
    ]
    return np.stack(orders, axis=1) if experiment.members else orders[0]


def log_training(session: Session, state: State, step: int) -> State:
    """Writes the means since the last training line and starts new ones."""
    experiment = session.experiment
    for number, scores in _going_on(session, state, scores_of(state.totals)):
        params, skipped = of_run(experiment, (state.params, state.skipped), number)
        others = dropout_values(experiment.runs[number], params, step - 1)
        seen = of_run(experiment, state.telemetry, number)
        others |= {name: float(value) for name, value in figures(seen).items()}
        others["skipped"] = int(skipped)
        _write(session, step, "train", number, scores, others)
    fresh = place(
        jax.tree.map(jnp.zeros_like, (state.totals, state.telemetry)),
        state.totals.loss.sharding,
    )
    return state._replace(totals=fresh[0], telemetry=fresh[1])


def dropout_values(experiment: Experiment, params: Tree, step: int) -> dict[str, float]:
    """The rate at each site, at a step or as learned, and the mean regulariser."""
    objective = experiment.objective
    rates = rates_at(experiment.rows, step, experiment.timeline)
    rates |= rates_of(params, objective.places)
    values = {f"rate/{site}": rate for site, rate in rates.items()}
    if objective.places:
        values["penalty"] = mean_penalty(objective, params, jnp.int32(step))
    return {name: float(value) for name, value in values.items()}


def log_validation(session: Session, state: State, step: int) -> None:
    """Writes the scores on the examples held out from training, if there are any."""
    ids = session.experiment.validation_ids
    if ids.size:
        train = session.experiment.data.train
        scores = evaluate(session.experiment, session.evaluate, state, train, ids)
        for number, its_scores in _going_on(session, state, scores):
            _write(session, step, "validation", number, its_scores, {})


def log_test(session: Session, state: State, step: int) -> None:
    """Writes the scores on the test split."""
    test = session.experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    scores = evaluate(session.experiment, session.evaluate, state, test, ids)
    shifts = {}
    if session.statistics is not None:
        met = statistics_over(session.statistics, state, test, ids)
        shifts = {
            f"variance_shift/{name}": float(shift)
            for name, shift in variance_shift(state.stats, met).items()
        }
    for number, its_scores in _going_on(session, state, scores):
        _write(session, step, "test", number, its_scores, shifts)


def evaluate(
    experiment: Experiment,
    evaluate_batch: Callable[..., Totals],
    state: State,
    split: data.Split,
    ids: Int32[np.ndarray, "*members n"],
) -> list[Scores]:
    """The scores on the examples `ids` of a split, each counted once, of each run.

    Members of a population have each their own examples, or all the same.
    """
    mesh = experiment.mesh
    size = min(EVALUATION_BATCH, ids.shape[-1])
    size += -size % mesh.shape["data"]
    batches = [data.evaluation_batches(row, size) for row in np.atleast_2d(ids)]
    examples, weights = (np.stack(parts, axis=1) for parts in zip(*batches))
    sharding = over_rows(mesh)
    if not experiment.members:
        examples, weights = examples[:, 0], weights[:, 0]
        sharding = NamedSharding(mesh, PartitionSpec("data"))
    parts = []
    own = own_rows(mesh, size)
    for rows in zip(examples[..., own], weights[..., own]):
        arrays = (*fetch_shaped(split.fetch, rows[0]), rows[1])
        parts.append(evaluate_batch(state, *place(arrays, sharding)))
    return mean_scores(parts)


def _position(session: Session) -> Position:
    elapsed = time.perf_counter() - session.begin
    return Position(metrics_size(session.workdir), elapsed)


def frozen_members(experiment: Experiment, state: State) -> set[int]:
    """The members that stay as they are since a step of theirs was not finite."""
    if not experiment.members or experiment.config.on_nan != "stop":
        return set()
    return set(np.flatnonzero(jax.device_get(state.skipped)).tolist())


def _going_on(
    session: Session, state: State, scores: list[Scores]
) -> list[tuple[int, Scores]]:
    """The scores of the runs that are not frozen, by their number."""
    frozen = frozen_members(session.experiment, state)
    return [item for item in enumerate(scores) if item[0] not in frozen]


def _write(
    session: Session,
    step: int,
    split: str,
    number: int,
    scores: Scores,
    others: dict[str, float | int],
) -> None:
    experiment = session.experiment
    seed = experiment.runs[number].config.seed
    member = {"seed": seed, "member": number} if experiment.members else {}
    values = {"loss": scores.loss, "accuracy": scores.accuracy, **others}
    epoch = step / experiment.timeline.steps_per_epoch
    line = {"step": step, "epoch": epoch, "split": split, **member, **values}
    append_line(session.workdir, line)
    tag = f"{split}/member{number}" if experiment.members else split
    for name, value in values.items():
        session.events.add_scalar(f"{tag}/{name}", value, step)


def _show(session: Session, step: int, metrics: Metrics) -> None:
    """Moves the bar; fetching an older step's metrics keeps few steps in flight."""
    losses, accuracies = (np.atleast_1d(metrics[name]) for name in ("loss", "accuracy"))
    finite = np.atleast_1d(metrics["finite"])
    if session.experiment.config.on_nan == "stop":
        for number in np.flatnonzero(~finite).tolist():
            _report(session, step, number, float(losses[number]))
    speed = session.bar.tasks[session.task].speed or 0
    session.bar.update(
        session.task,
        completed=step + 1,
        loss=losses[finite].mean() if finite.any() else math.nan,
        accuracy=accuracies[finite].mean() if finite.any() else math.nan,
        pace=speed * session.experiment.config.batch_size * len(losses),
    )


def _report(session: Session, step: int, number: int, loss: float) -> None:
    """Ends a run whose step is not finite; of a member, says once that it stays."""
    if not session.experiment.members:
        raise FloatingPointError(_not_finite(session, step, loss))
    if number not in session.frozen:
        session.frozen.add(number)
        seed = session.experiment.runs[number].config.seed
        print(
            f"member {number} (seed {seed}) stays as it is: the {_what(loss)} at step "
            f"{step}.",
            file=sys.stderr,
        )


def _not_finite(session: Session, step: int, loss: float) -> str:
    """What is known of a step whose loss or gradient is not finite."""
    experiment = session.experiment
    rates = rates_at(experiment.rows, step, experiment.timeline)
    sites = ", ".join(f"{site} {float(rate):.4g}" for site, rate in rates.items())
    ids, _ = next(batch_ids(experiment, step))
    images = np.asarray(experiment.data.train.fetch(ids)[0])
    holes = ids[~np.isfinite(images.reshape(len(ids), -1)).all(1)].tolist()
    cause = f" (not finite: the images of {holes})" if holes else ""
    return (
        f"the {_what(loss)} at step {step}; rates: {sites or 'none'}; examples: "
        f"{ids.tolist()}{cause}; last saved step: {session.checkpoints.latest_step()}; "
        "--on_nan=skip counts such steps and goes on."
    )


def _what(loss: float) -> str:
    return "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"


def _stopped(session: Session, state: State) -> Stopped:
    save(session.checkpoints, state, _position(session))
    session.checkpoints.wait_until_finished()
    return Stopped(
        f"stopped by {session.signals[0].name} after step {steps_done(state)}, which "
        f"is saved in {session.workdir}; the same command goes on from there."
    )
