"""The training loop: it trains until something is due, does that, and goes on."""

import itertools
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import reached_preemption_sync_point

from dropout import Timeline
from training.experiment import Experiment
from training.lines import test_lines, training_lines, validation_lines
from training.not_finite import check_finite
from training.periods import next_stop, periods_of
from training.programs import Programs
from training.record.profile import parse_profile
from training.record.recorder import Recorder
from training.record.resources import resources
from training.record.summary import pace
from training.runtime.checkpoints import save
from training.runtime.devices import put
from training.runtime.signals import Stopped
from training.state import State, steps_done
from training.step import Metrics, Shown

CALLS_IN_FLIGHT = 2


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
    profile: Callable[[int], None],
) -> tuple[State, Timing]:
    """Train from the steps that a state has done to the end; log, test and save.

    Raises:
        FloatingPointError: a step is not finite, and `on_nan` is stop.
        Stopped: one of the signals asked for it; the state is saved.
    """
    timeline, periods = experiment.timeline, periods_of(experiment)
    window = parse_profile(experiment.config.profile)
    start = done = steps_done(state)
    timing, told = Timing(0.0, 0), Timing(0.0, 0)
    calls = itertools.count()

    def stops() -> bool:
        return _stops_after(next(calls), signals)

    def show(first: int, count: int, metrics: Metrics) -> None:
        taken = {name: np.asarray(value)[:count] for name, value in metrics.items()}
        recorder.show(first + count - 1, _at(taken, -1))
        if experiment.config.on_nan == "stop" and not taken["finite"].all():
            saved = checkpoints.latest_step()
            for i in range(count):
                check_finite(experiment, recorder, saved, first + i, _at(taken, i))

    while done < timeline.total:
        # The first step of a process is not timed.
        stop = done + 1 if done == start else next_stop(periods, timeline.total, done)
        stop = min([stop, *(mark for mark in window or () if mark > done)])
        profile(done)
        begin = time.perf_counter()
        state = advance(programs, timeline, state, stop, stops, show)
        if done > start:
            seconds, steps = time.perf_counter() - begin, steps_done(state) - done
            timing = Timing(timing.seconds + seconds, timing.steps + steps)
        done = steps_done(state)
        if done == stop:
            state = _do_due(experiment, programs, state, recorder, checkpoints)
            told = _tell_resources(experiment, recorder, done, told, timing)
        if signals:
            raise _stopped(recorder, checkpoints, state, signals)
    return state, timing


def with_new_sums(state: State) -> State:
    """Return the state with its sums since the last training line at zero."""
    sums = state.totals, state.telemetry
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), sums)
    totals, telemetry = put(zeros, state.totals.loss.sharding)
    return state._replace(totals=totals, telemetry=telemetry)


def advance(
    programs: Programs,
    timeline: Timeline,
    state: State,
    stop: int,
    stops: Callable[[], bool],
    show: Callable[[int, int, Metrics], None],
) -> State:
    """Train until `stop` steps are done or `stops()`; show the metrics of each call."""
    in_flight, done = deque(), steps_done(state)
    while done < stop:
        left_of_epoch = timeline.steps_per_epoch - done % timeline.steps_per_epoch
        count = min(programs.most_steps, stop - done, left_of_epoch)
        state, metrics = programs.train(state, done, count)
        in_flight.append((done, count, on_their_way(metrics)))
        done += count
        # Fetching an older call's metrics keeps few calls in flight.
        if len(in_flight) > CALLS_IN_FLIGHT:
            show(*in_flight.popleft())
        if stops():
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


def _tell_resources(
    experiment: Experiment, recorder: Recorder, step: int, told: Timing, now: Timing
) -> Timing:
    """Give trackers the pace since the last training line, if there is one now."""
    if step % periods_of(experiment).log and step != experiment.timeline.total:
        return told
    since = now.steps - told.steps, now.seconds - told.seconds
    speed = pace(experiment, *since)["images_per_second"]
    recorder.tell_resources(step, resources(experiment, step, speed))
    return now


def _at(metrics: Shown, index: int) -> Shown:
    """The metrics of one step of a call."""
    return {name: np.asarray(value[index]) for name, value in metrics.items()}


def _stops_after(call: int, signals: list[signal.Signals]) -> bool:
    """Whether a signal asked for a stop; processes agree on the call to stop after."""
    # Any process may get SIGTERM, so that every process asks this after every call, by
    # numbers without a gap: the sync point is the number after the largest so far.
    if jax.process_count() > 1 and reached_preemption_sync_point(call):
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
