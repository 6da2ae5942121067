"""One run from start to finish: take up what is saved, train, write the summary."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from models.convolution import compiler_options
from training import loop
from training.batches import batches_from, one_ahead
from training.checkpoints import Position, locked, open_checkpoints, restore_latest
from training.config import Config, canonical, flag_lines, with_members
from training.curves import draw_curves
from training.devices import resolve_mesh
from training.evaluation import make_evaluate_batch, scores_on
from training.events import open_events
from training.experiment import (
    Experiment,
    mask_key,
    of_run,
    prepare,
    start_state,
    state_sharding,
)
from training.hosts import by_leader, check_same
from training.interrupt import stop_requests
from training.learned import compression
from training.log import frozen_members
from training.members import Member
from training.population import (
    experiment_step,
    make_member_evaluate,
    make_member_statistics,
    map_members,
    settings_of,
)
from training.progress import progress_bar
from training.record import (
    circumstances,
    claim,
    digest,
    finite,
    make_directory,
    masks_digest,
    read_metrics,
    read_summary,
    space_needed,
    truncate_metrics,
    write_atomically,
)
from training.report import describe
from training.session import Session
from training.state import State, Totals, steps_done
from training.step import Metrics

Summary = dict[str, Any]
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
    jitted = jax.jit(
        experiment_step(experiment, lambda: traces.append(None)),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    return jitted.lower(state, batch, settings_of(experiment)).compile(), traces


def _evaluate(experiment: Experiment) -> Callable[..., Totals]:
    compiled = partial(jax.jit, compiler_options=compiler_options())
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
    return jax.jit(statistics, compiler_options=compiler_options())


def _train(experiment: Experiment, workdir: Path) -> Summary:
    begin = time.perf_counter()
    state = start_state(experiment)
    compiled, traces = compile_step(experiment, state)
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
            step=compiled,
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
    summary = {**_results(session, state), **measured}
    _write_summary(session, summary)
    return summary


@by_leader
def _write_summary(session: Session, summary: Summary) -> None:
    config = session.experiment.config
    title = f"{config.dataset}  {config.model}  --dropout='{config.dropout}'"
    if config.seeds:
        title += f"  --seeds={config.seeds}: means, and where all members lie"
    lines = read_metrics(session.workdir)
    draw_curves(lines, title, session.workdir / "curves.png")
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    write_atomically(session.workdir / "summary.json", text)


def _results(session: Session, state: State) -> Summary:
    experiment, config = session.experiment, session.experiment.config
    examples = session.timed_steps * config.batch_size * len(experiment.runs)
    results = {
        "seconds": time.perf_counter() - session.begin,
        "images_per_second": examples / session.seconds if examples else None,
        "dropout": config.dropout,
        "bits": config.bits,
        **circumstances(experiment.mesh),
    }
    runs = _run_results(session, state)
    if not experiment.members:
        return {**runs[0], **results}
    together = _together(runs, frozen_members(experiment, state))
    return {**together, **results}


def _run_results(session: Session, state: State) -> list[Summary]:
    """The results of each member, or of the only run."""
    experiment, loaded = session.experiment, session.experiment.data
    test_ids = np.arange(loaded.test.size, dtype=np.int32)
    train, test = (
        scores_on(experiment, session.evaluate, state, split, ids)
        for split, ids in (
            (loaded.train, experiment.train_ids),
            (loaded.test, test_ids),
        )
    )
    state = jax.device_get(state)
    states = [of_run(experiment, state, i) for i in range(len(experiment.runs))]
    found = [
        {
            "train_accuracy": its_train.accuracy,
            "train_loss": its_train.loss,
            "test_accuracy": its_test.accuracy,
            "test_loss": its_test.loss,
            "steps": int(its_state.step),
            "skipped": int(its_state.skipped),
            "params_digest": digest(its_state.params),
            "masks_digest": _masks(run),
            **compression(its_state.params, run.objective.places),
            **{name: getattr(run.config, name) for name in Member._fields},
        }
        for run, its_state, its_train, its_test in zip(
            experiment.runs, states, train, test, strict=True
        )
    ]
    return [finite(results) for results in found]


def _together(members: list[Summary], frozen: set[int]) -> Summary:
    """The means over the members that are not frozen, and the results of all."""
    numbered = [{"member": i, **member} for i, member in enumerate(members)]
    going_on = [member for member in numbered if member["member"] not in frozen]
    means = {
        name: float(np.mean([member[name] for member in going_on] or math.nan))
        for name in ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
    }
    return {
        **finite(means),
        "steps": members[0]["steps"],
        "frozen": sorted(frozen),
        "members": numbered,
    }


def _masks(experiment: Experiment) -> str:
    return masks_digest(
        experiment.rows,
        experiment.timeline,
        mask_key(experiment),
        experiment.objective.bits,
    )
