"""The training loop: steps between two stops, then what is due at the stop."""

import itertools
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int32
from rich.progress import Progress, TaskID
from tensorboardX import SummaryWriter

from dropout import named_key, rates_at
from training import data
from training.augmentation import draw, fetch_shaped
from training.checkpoints import Position, save
from training.devices import over_rows
from training.evaluation import Scores, device_totals, mean_scores
from training.experiment import Experiment
from training.interrupt import Stopped
from training.learned import rates_of
from training.record import append_line, metrics_size
from training.step import (
    Batch,
    Metrics,
    State,
    Totals,
    TrainStep,
    empty_totals,
    mean_penalty,
)

EVALUATION_BATCH = 512
STEPS_IN_FLIGHT = 2


@dataclass
class Session:
    """One process's part of a run, with what it measures on the way.

    Attributes:
        start: the step at which this process takes up the run.
        begin: when the run began, less the time between its processes.
        signals: those received that ask to stop.
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
    step: TrainStep
    evaluate: Callable[..., Totals]
    start: int
    begin: float
    signals: list[signal.Signals]
    seconds: float = 0.0
    timed_steps: int = 0


def mask_key(experiment: Experiment):
    """The key of the training masks."""
    return named_key(experiment.keys["dropout"], "train")


def make_batch(
    experiment: Experiment, ids: Int32[np.ndarray, " b"], epoch: int
) -> Batch:
    """A batch in micro-batches, each padded to a multiple of the devices."""
    parts = ids.reshape(experiment.config.microbatches, -1)
    padding = -parts.shape[1] % experiment.mesh.size
    examples = np.pad(parts, ((0, 0), (0, padding)))
    weights = np.pad(np.ones(parts.shape, np.float32), ((0, 0), (0, padding)))
    fetch = experiment.data.train.fetch
    calls, key = experiment.objective.augmentations, experiment.keys["data"]
    draws = draw(calls, key, epoch, examples, experiment.train_ids, fetch)
    arrays = (*fetch_shaped(fetch, examples), examples, weights, draws)
    return Batch(*jax.device_put(arrays, over_rows(experiment.mesh)))


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
        if int(state.step) < stop:
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
    key, in_flight = mask_key(session.experiment), deque()
    begin = time.perf_counter()
    for step in range(first, stop):
        state, metrics = session.step(state, next(session.batches), key)
        in_flight.append(metrics)
        if step == session.start:
            jax.block_until_ready(state)
            begin = time.perf_counter()
        if len(in_flight) > STEPS_IN_FLIGHT:
            _show(session, step - STEPS_IN_FLIGHT, in_flight.popleft())
        if session.signals:
            break
    jax.block_until_ready(state)
    done = int(state.step)
    session.seconds += time.perf_counter() - begin
    session.timed_steps += done - first - (first == session.start)
    for step, metrics in zip(range(done - len(in_flight), done), in_flight):
        _show(session, step, metrics)
    return state


def batches(experiment: Experiment, first: int) -> Iterator[Batch]:
    """The batches from step `first` on, each a function of the seed and the step."""
    return (make_batch(experiment, *each) for each in batch_ids(experiment, first))


def batch_ids(
    experiment: Experiment, first: int
) -> Iterator[tuple[Int32[np.ndarray, " batch"], int]]:
    """The example ids and the epoch of each batch from step `first` on."""
    config, timeline = experiment.config, experiment.timeline
    for epoch in itertools.count(first // timeline.steps_per_epoch):
        order = data.epoch_order(
            experiment.keys["data"], epoch, experiment.train_ids, config.batch_size
        )
        left = np.asarray(order)[max(first - epoch * timeline.steps_per_epoch, 0) :]
        yield from ((ids, epoch) for ids in left)


def log_training(session: Session, state: State, step: int) -> State:
    """Writes the means since the last training line and starts new ones."""
    others = dropout_values(session.experiment, state, step - 1)
    others["skipped"] = int(state.skipped)
    _write(session, step, "train", device_totals(state.totals), others)
    fresh = jax.device_put(empty_totals(), state.totals.loss.sharding)
    return state._replace(totals=fresh)


def dropout_values(experiment: Experiment, state: State, step: int) -> dict[str, float]:
    """The rate at each site, at a step or as learned, and the mean regulariser."""
    objective, params = experiment.objective, state.params
    rates = rates_at(experiment.rows, step, experiment.timeline)
    rates |= rates_of(params, objective.places)
    values = {f"rate/{site}": rate for site, rate in rates.items()}
    if objective.places:
        values["penalty"] = mean_penalty(objective, params, jnp.int32(step))
    return {name: float(value) for name, value in values.items()}


def log_validation(session: Session, state: State, step: int) -> None:
    """Writes the scores on the examples held out from training, if there are any."""
    if len(session.experiment.validation_ids):
        ids = session.experiment.validation_ids
        train = session.experiment.data.train
        scores = evaluate(session.experiment, session.evaluate, state, train, ids)
        _write(session, step, "validation", scores, {})


def log_test(session: Session, state: State, step: int) -> None:
    """Writes the scores on the test split."""
    test = session.experiment.data.test
    ids = np.arange(test.size, dtype=np.int32)
    scores = evaluate(session.experiment, session.evaluate, state, test, ids)
    _write(session, step, "test", scores, {})


def evaluate(
    experiment: Experiment,
    evaluate_batch: Callable[..., Totals],
    state: State,
    split: data.Split,
    ids: Int32[np.ndarray, " n"],
) -> Scores:
    """The scores on the examples `ids` of a split, each counted once."""
    mesh = experiment.mesh
    size = min(EVALUATION_BATCH, len(ids))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    parts = []
    batches = data.evaluation_batches(ids, size + -size % mesh.size)
    for examples, weights in zip(*batches):
        batch = jax.device_put((*split.fetch(examples), weights), sharding)
        parts.append(evaluate_batch(state, *batch))
    return mean_scores(parts)


def _position(session: Session) -> Position:
    elapsed = time.perf_counter() - session.begin
    return Position(metrics_size(session.workdir), elapsed)


def _write(
    session: Session,
    step: int,
    split: str,
    scores: Scores,
    others: dict[str, float | int],
) -> None:
    values = {"loss": scores.loss, "accuracy": scores.accuracy, **others}
    epoch = step / session.experiment.timeline.steps_per_epoch
    line = {"step": step, "epoch": epoch, "split": split, **values}
    append_line(session.workdir, line)
    for name, value in values.items():
        session.events.add_scalar(f"{split}/{name}", value, step)


def _show(session: Session, step: int, metrics: Metrics) -> None:
    """Moves the bar; fetching an older step's metrics keeps few steps in flight."""
    loss = float(metrics["loss"])
    if session.experiment.config.on_nan == "stop" and not metrics["finite"]:
        raise FloatingPointError(_not_finite(session, step, loss))
    speed = session.bar.tasks[session.task].speed or 0
    session.bar.update(
        session.task,
        completed=step + 1,
        loss=loss,
        accuracy=float(metrics["accuracy"]),
        pace=speed * session.experiment.config.batch_size,
    )


def _not_finite(session: Session, step: int, loss: float) -> str:
    """What is known of a step whose loss or gradient is not finite."""
    experiment = session.experiment
    rates = rates_at(experiment.rows, step, experiment.timeline)
    sites = ", ".join(f"{site} {float(rate):.4g}" for site, rate in rates.items())
    ids, _ = next(batch_ids(experiment, step))
    images = np.asarray(experiment.data.train.fetch(ids)[0])
    holes = ids[~np.isfinite(images.reshape(len(ids), -1)).all(1)].tolist()
    what = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
    cause = f" (not finite: the images of {holes})" if holes else ""
    return (
        f"the {what} at step {step}; rates: {sites or 'none'}; examples: "
        f"{ids.tolist()}{cause}; last saved step: {session.checkpoints.latest_step()}; "
        "--on_nan=skip counts such steps and goes on."
    )


def _stopped(session: Session, state: State) -> Stopped:
    save(session.checkpoints, state, _position(session))
    session.checkpoints.wait_until_finished()
    return Stopped(
        f"stopped by {session.signals[0].name} after step {int(state.step)}, which is "
        f"saved in {session.workdir}; the same command goes on from there."
    )
