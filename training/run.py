"""One run from start to finish: take up what is saved, train, write the summary."""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from models.convolution import compiler_options
from training import loop
from training.checkpoints import Position, locked, open_checkpoints, restore_latest
from training.curves import draw_curves
from training.devices import replicated
from training.evaluation import make_evaluate_batch
from training.experiment import Experiment, start_state
from training.interrupt import stop_requests
from training.progress import progress_bar
from training.record import (
    claim,
    digest,
    finite,
    make_directory,
    masks_digest,
    read_metrics,
    truncate_metrics,
    versions,
    write_atomically,
)
from training.report import describe
from training.step import State, TrainStep, make_train_step

Summary = dict[str, Any]


def run(experiment: Experiment) -> Summary:
    """Trains an experiment in its workdir, or finishes what was begun there.

    Raises:
        ValueError: the workdir holds another run, or another process runs there.
        FloatingPointError: a step is not finite, and `on_nan` is stop.
        Stopped: a signal asked for it; the state is saved.
    """
    workdir = make_directory("workdir", experiment.config.workdir)
    with locked(workdir):
        claim(workdir, experiment.config)
        if (workdir / "summary.json").exists():
            return json.loads((workdir / "summary.json").read_text())
        write_atomically(workdir / "plan.txt", describe(experiment) + "\n")
        return _train(experiment, workdir)


def compile_step(experiment: Experiment, state: State) -> tuple[TrainStep, list[None]]:
    """The compiled training step, and a list that grows whenever it is traced."""
    traces: list[None] = []
    step = make_train_step(
        experiment.objective,
        experiment.optimizer,
        experiment.config.max_norm,
        lambda: traces.append(None),
    )
    batch = next(loop.batches(experiment, 0))
    jitted = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())
    return jitted.lower(state, batch, loop.mask_key(experiment)).compile(), traces


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
    ):
        found = restore_latest(checkpoints, state, replicated(experiment.mesh))
        state, position = found or (state, Position())
        truncate_metrics(workdir, position.metrics_bytes)
        start = int(state.step)
        session = loop.Session(
            experiment=experiment,
            workdir=workdir,
            checkpoints=checkpoints,
            events=SummaryWriter(str(workdir / "tensorboard"), purge_step=start),
            bar=bar,
            task=bar.add_task(
                "", total=timeline.total, completed=start, loss=0, accuracy=0, pace=0
            ),
            batches=loop.batches(experiment, start),
            step=compiled,
            evaluate=jax.jit(
                make_evaluate_batch(experiment.objective),
                compiler_options=compiler_options(),
            ),
            start=start,
            begin=begin - position.seconds,
            signals=signals,
        )
        state = loop.run_steps(session, state)
        checkpoints.wait_until_finished()
    session.events.close()
    measured = {"compile_seconds": compile_seconds, "compilations": len(traces)}
    return _finish(session, state, measured)


def _finish(session: loop.Session, state: State, measured: dict) -> Summary:
    summary = finite({**_results(session, state), **measured})
    config = session.experiment.config
    title = f"{config.dataset}  {config.model}  --dropout='{config.dropout}'"
    draw_curves(read_metrics(session.workdir), title, session.workdir / "curves.png")
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    write_atomically(session.workdir / "summary.json", text)
    return summary


def _results(session: loop.Session, state: State) -> Summary:
    experiment = session.experiment
    loaded, config = experiment.data, experiment.config
    test_ids = np.arange(loaded.test.size, dtype=np.int32)
    train, test = (
        loop.evaluate(experiment, session.evaluate, state, split, ids)
        for split, ids in (
            (loaded.train, experiment.train_ids),
            (loaded.test, test_ids),
        )
    )
    examples = session.timed_steps * config.batch_size
    return {
        "train_accuracy": train.accuracy,
        "train_loss": train.loss,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "steps": int(state.step),
        "skipped": int(state.skipped),
        "seconds": time.perf_counter() - session.begin,
        "images_per_second": examples / session.seconds if examples else None,
        "params_digest": digest(state.params),
        "masks_digest": _masks(experiment),
        "seed": config.seed,
        "dropout": config.dropout,
        "versions": versions(),
    }


def _masks(experiment: Experiment) -> str:
    return masks_digest(
        experiment.rows,
        experiment.timeline,
        loop.mask_key(experiment),
        experiment.objective.bits,
    )
