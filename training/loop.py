"""The training loop: it trains until something is due, does that, and goes on."""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import reached_preemption_sync_point

from dropout import Timeline
from training.config import NEVER_STEPS
from training.data.batches import batches_from, one_ahead
from training.experiment import Experiment
from training.lines import test_lines, training_lines, validation_lines
from training.not_finite import check_finite
from training.programs import Programs
from training.record.recorder import Recorder
from training.runtime.checkpoints import save
from training.runtime.devices import put
from training.runtime.signals import Stopped
from training.state import Batch, State, steps_done
from training.step import Metrics

STEPS_IN_FLIGHT = 2


class Periods(NamedTuple):
    """The steps between two events of each kind."""

    log: int
    validate: int
    test: int
    save: int


class Timing(NamedTuple):
    """The seconds spent in steps after this process's first one, and their number."""

    seconds: float
    steps: int


def run_steps(
    experiment: Experiment,
    programs: Programs,
    state: State,
    recorder: Recorder,
    checkpoints: ocp.CheckpointManager,
    signals: list[signal.Signals],
) -> tuple[State, Timing]:
    """Train from the steps that a state has done to the end; log, test and save.

    Raises:
        FloatingPointError: a step is not finite, and `on_nan` is stop.
        Stopped: one of the signals asked for it; the state is saved.
    """
    timeline, periods = experiment.timeline, periods_of(experiment)
    start = done = steps_done(state)
    batches = one_ahead(batches_from(experiment, start))
    seconds = 0.0

    def show(step: int, metrics: Metrics) -> None:
        recorder.show(step, metrics)
        if experiment.config.on_nan == "stop" and not np.all(metrics["finite"]):
            saved = checkpoints.latest_step()
            check_finite(experiment, recorder, saved, step, metrics)

    while done < timeline.total:
        # The first step of a process is not timed.
        stop = done + 1 if done == start else next_stop(periods, timeline.total, done)
        begin = time.perf_counter()
        state = advance(programs.step, state, batches, stop, signals, show)
        if done > start:
            seconds += time.perf_counter() - begin
        done = steps_done(state)
        if done == stop:
            state = _do_due(experiment, programs, state, recorder, checkpoints)
        if signals:
            raise _stopped(recorder, checkpoints, state, signals)
    return state, Timing(seconds, max(done - start - 1, 0))


def periods_of(experiment: Experiment) -> Periods:
    """Return the steps between two events of a run; it validates after each epoch."""
    config = experiment.config
    every = (config.log_every, 0, config.test_every, config.save_every)
    return Periods(*(period_of(steps, experiment.timeline) for steps in every))


def period_of(every: int, timeline: Timeline) -> int:
    """Return the steps between two events: an epoch for 0, the whole run for never."""
    if every == NEVER_STEPS:
        return timeline.total
    return every or timeline.steps_per_epoch


def next_stop(periods: Periods, total: int, done: int) -> int:
    """Return the first step after `done` after which something is due."""
    return min(total, *((done // every + 1) * every for every in periods))


def with_new_sums(state: State) -> State:
    """Return the state with its sums since the last training line at zero."""
    zeros = jax.tree.map(jnp.zeros_like, (state.totals, state.telemetry))
    totals, telemetry = put(zeros, state.totals.loss.sharding)
    return state._replace(totals=totals, telemetry=telemetry)


def advance(
    train_step: Callable[[State, Batch], tuple[State, Metrics]],
    state: State,
    batches: Iterator[Batch],
    stop: int,
    signals: list[signal.Signals],
    show: Callable[[int, Metrics], None],
) -> State:
    """Train until `stop` steps are done, or a signal came; show each step's metrics."""
    in_flight = deque()
    for step in range(steps_done(state), stop):
        state, metrics = train_step(state, next(batches))
        in_flight.append((step, on_their_way(metrics)))
        # Fetching an older step's metrics keeps few steps in flight.
        if len(in_flight) > STEPS_IN_FLIGHT:
            show(*in_flight.popleft())
        if _stops_after(step, signals):
            break
    jax.block_until_ready(state)
    for shown in in_flight:
        show(*shown)
    return state


def on_their_way(metrics: Metrics) -> Metrics:
    """Start copying metrics to the host as soon as they are known; return them.

    With this, a step of a small network on a GPU takes two thirds of the time. On the
    CPU nothing is copied: the metrics are on the host, and the call would take 0.1 ms.
    """
    if jax.default_backend() != "cpu":
        for value in metrics.values():
            value.copy_to_host_async()
    return metrics


def _do_due(
    experiment: Experiment,
    programs: Programs,
    state: State,
    recorder: Recorder,
    checkpoints: ocp.CheckpointManager,
) -> State:
    """Log, test and save what is due after the steps that are done."""
    step = steps_done(state)
    log, validate, test, keep = (
        step % every == 0 or step == experiment.timeline.total
        for every in periods_of(experiment)
    )
    if log:
        recorder.write(training_lines(experiment, state, step))
        state = with_new_sums(state)
    if validate:
        recorder.write(validation_lines(experiment, programs.evaluate, state, step))
    if test:
        recorder.write(test_lines(experiment, programs, state, step))
        recorder.plot(step)
    recorder.tell_epoch(step)
    if keep:
        save(checkpoints, state, recorder.position())
    return state


def _stops_after(step: int, signals: list[signal.Signals]) -> bool:
    """Whether a signal asked for a stop; processes agree on the step to stop after."""
    # Any process may get SIGTERM, so that every process calls this after every step.
    if jax.process_count() > 1 and reached_preemption_sync_point(step):
        signals.append(signal.SIGTERM)
    return bool(signals)


def _stopped(
    recorder: Recorder,
    checkpoints: ocp.CheckpointManager,
    state: State,
    signals: list[signal.Signals],
) -> Stopped:
    save(checkpoints, state, recorder.position())
    checkpoints.wait_until_finished()
    return Stopped(
        f"stopped by {signals[0].name} after step {steps_done(state)}, which is saved "
        f"in {recorder.workdir}; rerun the same command to resume."
    )
