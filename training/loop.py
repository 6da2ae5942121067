"""The training loop: steps between two stops, then what is due at the stop."""

import math
import signal
import sys
import time
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import reached_preemption_sync_point

from dropout import Timeline, rows_at
from training.config import NEVER_STEPS
from training.data.batches import batch_ids
from training.record.metrics_log import metrics_size
from training.record.recorder import log_test, log_training, log_validation
from training.runtime.checkpoints import Position, save
from training.runtime.devices import put
from training.runtime.signals import Stopped
from training.session import Session
from training.state import State, steps_done
from training.step import Metrics

STEPS_IN_FLIGHT = 2


def run_steps(session: Session, state: State) -> State:
    """Train from `session.start` to the end, with all that is due on the way."""
    timeline, config = session.experiment.timeline, session.experiment.config
    periods = [
        period_of(every, timeline)
        for every in (config.log_every, 0, config.test_every, config.save_every)
    ]
    done = session.start
    while done < timeline.total:
        stop = min(timeline.total, *((done // every + 1) * every for every in periods))
        state = advance(session, state, done, stop)
        if steps_done(state) < stop:
            raise _stopped(session, state)
        due = [stop % every == 0 or stop == timeline.total for every in periods]
        if due[0]:
            log_training(session, state, stop)
            state = with_new_sums(state)
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


def with_new_sums(state: State) -> State:
    """Return the state with its sums since the last training line at zero."""
    zeros = jax.tree.map(jnp.zeros_like, (state.totals, state.telemetry))
    totals, telemetry = put(zeros, state.totals.loss.sharding)
    return state._replace(totals=totals, telemetry=telemetry)


def period_of(every: int, timeline: Timeline) -> int:
    """Return the steps between two events: an epoch for 0, the whole run for never."""
    if every == NEVER_STEPS:
        return timeline.total
    return every or timeline.steps_per_epoch


def advance(session: Session, state: State, first: int, stop: int) -> State:
    """Train from `first` to `stop`, or to a signal, and time it.

    Raises:
        FloatingPointError: a step is not finite, and `on_nan` is stop.
    """
    in_flight = deque()
    begin = time.perf_counter()
    for step in range(first, stop):
        state, metrics = session.step(state, next(session.batches), session.settings)
        in_flight.append(on_their_way(metrics))
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


def on_their_way(metrics: Metrics) -> Metrics:
    """Start copying metrics to the host as soon as they are known; return them.

    On a GPU a step of a small network takes two thirds of the time. On the CPU they are
    there, and it would take 0.1 ms.
    """
    if jax.default_backend() != "cpu":
        for value in metrics.values():
            value.copy_to_host_async()
    return metrics


def _stops_after(session: Session, step: int) -> bool:
    """Whether a stop was asked for; many processes agree on the step to stop after."""
    # SIGTERM to any of them; each calls this after every step.
    if jax.process_count() > 1 and reached_preemption_sync_point(step):
        session.signals.append(signal.SIGTERM)
    return bool(session.signals)


def _position(session: Session) -> Position:
    elapsed = time.perf_counter() - session.begin
    return Position(metrics_size(session.workdir), elapsed)


def _show(session: Session, step: int, metrics: Metrics) -> None:
    """Moves the bar; fetching an older step's metrics keeps few steps in flight."""
    losses, accuracies, finite = (
        np.atleast_1d(metrics[name]) for name in ("loss", "accuracy", "finite")
    )
    if session.experiment.config.on_nan == "stop":
        for number in np.flatnonzero(~finite).tolist():
            _report(session, step, number, float(losses[number]))
    session.bar.update(
        session.task,
        completed=step + 1,
        loss=losses[finite].mean() if finite.any() else math.nan,
        accuracy=accuracies[finite].mean() if finite.any() else math.nan,
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
    rows = rows_at(experiment.rows, step, experiment.timeline)
    sites = ", ".join(f"{row.site} {float(row.rate):.4g}" for row in rows)
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
