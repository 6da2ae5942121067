"""One run from start to finish: restore, train, and write the summary."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.calls import loops, most_steps
from training.canonical import canonical
from training.config import Config
from training.experiment import Experiment, prepare
from training.flag_text import flag_lines, recorded_values
from training.lines import frozen_members
from training.loop import run_steps
from training.members import Member, with_members
from training.programs import compile_programs
from training.record.console import describe
from training.record.digests import data_digest
from training.record.files import (
    make_directory,
    read_summary,
    remove_partial_files,
    space_needed,
    write_atomically,
)
from training.record.metrics_log import metrics_text, text_digest, write_metrics
from training.record.profile import open_profiler, parse_profile
from training.record.recorder import Announce, open_recorder, silent
from training.record.same_run import check_no_links, write_or_check
from training.record.summary import Summary, pace, results_of, write_summary
from training.record.trackers import Tracker, open_trackers, parse_trackers
from training.runtime.checkpoints import locked, open_checkpoints, resume
from training.runtime.devices import resolve_mesh
from training.runtime.environment import write_or_check_environment
from training.runtime.processes import check_same
from training.runtime.signals import stop_requests
from training.start import start_state, state_sharding
from training.state import steps_done


def run(experiment: Experiment, announce: Announce = silent) -> Summary:
    """Train an experiment in its workdir, from the newest state that is saved there.

    `announce` gets one line after each epoch.

    Raises:
        ValueError: the workdir holds another run, or another process runs there.
        FloatingPointError: a step is not finite, and `on_nan` is stop.
        Stopped: a signal asked for it; the state is saved.
    """
    most_steps(experiment)
    check_same(flag_lines(_without_machine(experiment.config)))
    workdir = make_directory("workdir", experiment.config.workdir)
    data = data_digest(experiment.data)
    check_no_links(workdir)
    with locked(workdir), space_needed(workdir):
        remove_partial_files(workdir)
        write_or_check(workdir, experiment.config, data)
        if (workdir / "summary.json").exists():
            return read_summary(workdir)
        write_or_check_environment(workdir)
        write_atomically(workdir / "plan.txt", describe(experiment) + "\n")
        return _train(experiment, workdir, data, announce)


def _without_machine(config: Config) -> Config:
    """Return a configuration without what may differ from process to process."""
    return replace(
        config, data_dir="", cache_dir="", loader_threads=0, loader_processes=0
    )


def train_population(
    config: Config, members: Sequence[Member], workdir: Path | str
) -> Summary:
    """Train runs that differ in the values of a `Member` together, in one workdir.

    The summary's `members` has the results of each, in the order of `members`. The
    errors are those of `run`.
    """
    together = replace(with_members(config, members), workdir=str(workdir))
    mesh = resolve_mesh(config.mesh, len(members))
    return run(prepare(replace(canonical(together), mesh=mesh)))


def _train(
    experiment: Experiment, workdir: Path, data: str, announce: Announce
) -> Summary:
    begin = time.perf_counter()
    state = start_state(experiment)
    programs, traces = compile_programs(experiment, state)
    compile_seconds = time.perf_counter() - begin
    with contextlib.ExitStack() as trackers:
        with stop_requests() as signals, open_checkpoints(workdir) as checkpoints:
            state, position = resume(checkpoints, state, state_sharding(experiment))
            write_metrics(workdir, position.metrics)
            frozen = frozen_members(experiment, state)
            start = steps_done(state)
            tracker = trackers.enter_context(_tracker(experiment, workdir, start))
            with open_recorder(
                experiment,
                workdir,
                start,
                begin - position.seconds,
                frozen,
                announce,
                tracker,
            ) as recorder:
                with open_profiler(
                    parse_profile(experiment.config.profile), workdir
                ) as profile:
                    state, timing = run_steps(
                        experiment, programs, state, recorder, checkpoints, signals,
                        profile,
                    )  # fmt: skip
                checkpoints.wait_until_finished()
        summary = {
            **results_of(experiment, programs.evaluate, state),
            **pace(experiment, timing.steps, timing.seconds),
            "seconds": recorder.seconds(),
            "compile_seconds": compile_seconds,
            "compilations": len(traces),
            "steps_per_call": programs.most_steps,
            "step_program": "loop" if loops(experiment) else "single",
            "data_digest": data,
            "metrics_digest": text_digest(metrics_text(workdir)),
        }
        # The results come first, since a picture can fail.
        write_summary(workdir, summary)
        recorder.plot_now(steps_done(state))
    return summary


def _tracker(
    experiment: Experiment, workdir: Path, start: int
) -> contextlib.AbstractContextManager[Tracker]:
    return open_trackers(
        parse_trackers(experiment.config.tracker),
        workdir,
        start,
        recorded_values(experiment.config),
    )
