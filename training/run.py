"""One run from start to finish: take up what is saved, train, write the summary."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from training import loop
from training.canonical import canonical
from training.config import Config
from training.data.batches import batches_from, one_ahead
from training.experiment import (
    Experiment,
    prepare,
    start_state,
    state_sharding,
)
from training.flag_text import flag_lines
from training.members import Member, with_members
from training.population import (
    experiment_step,
    make_member_evaluate,
    make_member_statistics,
    map_members,
    settings_of,
)
from training.record.console import describe
from training.record.files import (
    claim,
    make_directory,
    read_summary,
    space_needed,
    write_atomically,
)
from training.record.metrics_log import truncate_metrics
from training.record.progress import progress_bar
from training.record.recorder import frozen_members
from training.record.summary import Summary, results_of, write_summary
from training.record.tensorboard import open_events
from training.runtime.checkpoints import (
    Position,
    locked,
    open_checkpoints,
    restore_latest,
)
from training.runtime.compilation import compiled
from training.runtime.devices import resolve_mesh
from training.runtime.processes import check_same
from training.runtime.signals import stop_requests
from training.scoring import make_evaluate_batch
from training.session import Session
from training.state import State, Totals, steps_done
from training.step import Metrics

Step = Callable[..., tuple[State, Metrics]]


def run(experiment: Experiment) -> Summary:
    """Trains an experiment in its workdir, or finishes what was begun there.

    Raises:
        ValueError: the workdir holds another run, or another process runs there.
        FloatingPointError: a step is not finite, and `on_nan` is stop.
        Stopped: a signal asked for it; the state is saved.
    """
    check_same(flag_lines(replace(experiment.config, data_dir="", cache_dir="")))
    workdir = make_directory("workdir", experiment.config.workdir)
    with locked(workdir), space_needed(workdir):
        claim(workdir, experiment.config)
        if (workdir / "summary.json").exists():
            return read_summary(workdir)
        write_atomically(workdir / "plan.txt", describe(experiment) + "\n")
        return _train(experiment, workdir)


def train_population(
    config: Config, members: Sequence[Member], workdir: Path | str
) -> Summary:
    """Trains runs that differ in what a `Member` says, all together, in a workdir.

    The summary's `members` has the results of each, in the order of `members`. Raises
    what `run` raises.
    """
    together = replace(with_members(config, members), workdir=str(workdir))
    mesh = resolve_mesh(config.mesh, len(members))
    return run(prepare(replace(canonical(together), mesh=mesh)))


def compile_step(experiment: Experiment, state: State) -> tuple[Step, list[None]]:
    """The compiled training step, and a list that grows whenever it is traced."""
    traces: list[None] = []
    batch = next(batches_from(experiment, 0))
    step = experiment_step(experiment, lambda: traces.append(None))
    jitted = compiled(step, donate=(0,))
    return jitted.lower(state, batch, settings_of(experiment)).compile(), traces


def _evaluate(experiment: Experiment) -> Callable[..., Totals]:
    if not experiment.members:
        return compiled(make_evaluate_batch(experiment.objective))
    evaluate = make_member_evaluate(experiment.objective)
    mapped = compiled(map_members(evaluate, experiment.mesh))
    return partial(mapped, settings_of(experiment))


def _statistics(experiment: Experiment) -> Callable[..., Any] | None:
    """What telemetry asks batch norms at test; None where there are none to ask."""
    network, config = experiment.network, experiment.config
    if not network.stats or not config.telemetry:
        return None
    statistics = make_member_statistics(experiment.objective)
    return compiled(statistics)


def _train(experiment: Experiment, workdir: Path) -> Summary:
    begin = time.perf_counter()
    state = start_state(experiment)
    step, traces = compile_step(experiment, state)
    compile_seconds = time.perf_counter() - begin
    timeline = experiment.timeline
    with (
        stop_requests() as signals,
        open_checkpoints(workdir) as checkpoints,
        progress_bar() as bar,
        contextlib.ExitStack() as exits,
    ):
        found = restore_latest(checkpoints, state, state_sharding(experiment))
        state, position = found or (state, Position())
        truncate_metrics(workdir, position.metrics_bytes)
        start = steps_done(state)
        session = Session(
            experiment=experiment,
            workdir=workdir,
            checkpoints=checkpoints,
            add_events=exits.enter_context(open_events(workdir, start)),
            bar=bar,
            task=bar.add_task(
                "",
                total=timeline.total,
                completed=start,
                loss=0,
                accuracy=0,
                images=experiment.config.batch_size * len(experiment.runs),
            ),
            batches=one_ahead(batches_from(experiment, start)),
            step=step,
            evaluate=_evaluate(experiment),
            statistics=_statistics(experiment),
            start=start,
            begin=begin - position.seconds,
            signals=signals,
            settings=settings_of(experiment),
            frozen=frozen_members(experiment, state),
        )
        state = loop.run_steps(session, state)
        checkpoints.wait_until_finished()
    measured = {"compile_seconds": compile_seconds, "compilations": len(traces)}
    summary = {**results_of(session, state), **measured}
    write_summary(session, summary)
    return summary
